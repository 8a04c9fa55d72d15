#!/bin/sh
#
# profile-flags.sh make|use|check DIR: the compiler's flags for a build that
# counts in DIR what is run, and for one by those counts.  What was never run
# is built as without them, not for size.  check: are there any?

case $1 in
    make)  echo "-fprofile-generate=$2 -fprofile-update=prefer-atomic" ;;
    use)   echo "-fprofile-use=$2 -fprofile-correction" \
                "-fprofile-partial-training -Wno-missing-profile" ;;
    check) # what nginx's configure tried is another program
           find "$2" -name '*autotest*' -delete
           find "$2" -name '*.gcda' | grep -q ngx_http_llm && exit

           echo "no counts in $2" >&2
           exit 1 ;;
    *)     echo "usage: $0 make|use|check DIR" >&2
           exit 1 ;;
esac
