#!/bin/sh
#
# profile-flags.sh count|use DIR: the compiler's flags for a build that counts
# in DIR what is run, and for one by those counts.  What was never run is built
# as without them, not for size.

case $1 in
    count) echo "-fprofile-generate=$2 -fprofile-update=prefer-atomic" ;;
    use)   echo "-fprofile-use=$2 -fprofile-correction" \
                "-fprofile-partial-training -Wno-missing-profile" ;;
    *)     echo "usage: $0 count|use DIR" >&2
           exit 1 ;;
esac
