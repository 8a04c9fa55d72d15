# Copyright (C) the ngx-llm authors
#
# Read by nginx's configure when it writes its Makefile.  The scripts that run
# in Redis become C strings; whoever changes one has it compiled anew.

for ngx_llm_lua in policy/quota tasks/queue tasks/files tasks/batches
do
    ngx_llm_name=`basename $ngx_llm_lua`
    ngx_llm_macro=NGX_HTTP_LLM_`echo $ngx_llm_name | tr a-z A-Z`_LUA
    ngx_llm_header=$NGX_OBJS/ngx_http_llm_${ngx_llm_name}_lua.h

    cat << END                                                >> $NGX_MAKEFILE

$ngx_llm_header:	$ngx_addon_dir/$ngx_llm_lua.lua
	(printf '%s\n' '#define $ngx_llm_macro \\'; \\
	 sed -e 's/[\\\\"]/\\\\&/g' -e 's/.*/    "&\\\\n" \\\\/' \\
	     $ngx_addon_dir/$ngx_llm_lua.lua; echo) \\
	    > $ngx_llm_header

END
done
