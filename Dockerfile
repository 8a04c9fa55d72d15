# The gateway in a container: Debian's nginx with the package, which the first
# stage builds as "make deb" does anywhere.  docs/install.md tells how to run
# it.
#
#   docker build -t ngx-llm .

ARG DEBIAN=trixie

FROM debian:${DEBIAN}-slim AS build

RUN apt-get update && apt-get install -y --no-install-recommends make

COPY . /src/ngx-llm
RUN make -C /src/ngx-llm BUILD=/src/build deb


FROM debian:${DEBIAN}-slim

# redis://host:6379, redis+sentinel://…; off: limits and cache are this
# container's own
ARG REDIS_URL=off

RUN --mount=type=bind,from=build,source=/src/build/deb,target=/deb \
    apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates nginx \
        /deb/libnginx-mod-http-llm_*.deb \
    && rm -rf /var/lib/apt/lists/*

# the example site, on all addresses, its logs on the container's own outputs
RUN rm /etc/nginx/sites-enabled/default \
    && sed -i -e 's/listen 127\.0\.0\.1:/listen /' \
        -e "s#^llm_redis .*#llm_redis $REDIS_URL;#" \
        /etc/nginx/sites-available/ngx-llm \
    && ln -s /etc/nginx/sites-available/ngx-llm /etc/nginx/sites-enabled/ \
    && sed -i -e 's/worker_connections .*/worker_connections 16384;/' \
        /etc/nginx/nginx.conf \
    && ln -sf /dev/stdout /var/log/nginx/llm.log \
    && ln -sf /dev/stdout /var/log/nginx/access.log \
    && ln -sf /dev/stderr /var/log/nginx/error.log

EXPOSE 8080 8081

# requests that run have their time to end
STOPSIGNAL SIGQUIT

HEALTHCHECK --interval=10s --timeout=3s \
    CMD ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8081 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q '200 OK' <&3"]

CMD ["nginx", "-g", "daemon off;"]
