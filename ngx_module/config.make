# Copyright (C) the ngx-llm authors
#
# Read by nginx's configure when it writes its Makefile.  The script that runs
# in Redis becomes a C string; whoever changes it has it compiled anew.

cat << END                                                    >> $NGX_MAKEFILE

$NGX_OBJS/ngx_http_llm_quota_lua.h:	$ngx_addon_dir/policy/quota.lua
	(printf '%s\n' '#define NGX_HTTP_LLM_QUOTA_LUA \\'; \\
	 sed -e 's/[\\\\"]/\\\\&/g' -e 's/.*/    "&\\\\n" \\\\/' \\
	     $ngx_addon_dir/policy/quota.lua; echo) \\
	    > $NGX_OBJS/ngx_http_llm_quota_lua.h

END
