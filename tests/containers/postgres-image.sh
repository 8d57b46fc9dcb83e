#!/bin/bash
# Builds a PostgreSQL image without a registry: server files of this machine, the libraries they need, busybox, and an
# entrypoint that keeps the official image's contract (POSTGRES_USER, _PASSWORD, _DB, _HOST_AUTH_METHOD, _INITDB_ARGS).
#
#   postgres-image.sh PREFIX TAG [MORE FILES OR FOLDERS]    PREFIX/bin/postgres is the server; DOCKER_HOST says where to
#
# Name it local/…, never as an official image. Needs Debian's busybox-static.
set -euo pipefail

prefix=$1 tag=$2
shift 2
root=$(mktemp -d)

copy_system() {
    mkdir -p "$root"/{bin,etc,tmp,dev,proc,sys,usr/lib/locale,var/lib/postgresql/data,var/run/postgresql} \
        "$root/docker-entrypoint-initdb.d"
    cp /bin/busybox "$root/bin/busybox"
    for applet in sh ls cat mkdir chmod sleep kill head id grep sed rm touch env test true; do
        ln -s busybox "$root/bin/$applet"
    done
    cp -a /usr/lib/locale/C.utf8 "$root/usr/lib/locale/"
    printf 'root:x:0:0:root:/:/bin/sh\npostgres:x:999:999:postgres:/var/lib/postgresql:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\npostgres:x:999:\n' >"$root/etc/group"
}

copy_server() { # the prefix and the further paths, each at its own place
    mkdir -p "$root$prefix"
    cp -a "$prefix/." "$root$prefix/"
    rm -rf "$root$prefix/include"
    for path in "$@"; do
        mkdir -p "$root$(dirname "$path")"
        cp -aL "$path" "$root$path"
    done
}

copy_libraries() { # what the dynamic linker finds for any program or library of the prefix
    find "$prefix" -type f \( -perm -u+x -o -name '*.so*' \) -exec sh -c 'ldd "$1" 2>/dev/null || :' sh {} \; |
        awk '/=> \//{print $3} /^\t\/lib/{print $1}' | sort -u | { grep -v "^$prefix" || :; } |
        while read -r library; do
            mkdir -p "$root$(dirname "$library")"
            cp -L "$library" "$root$library"
        done
}

write_entrypoint() {
    cat >"$root/bin/docker-entrypoint.sh" <<'X'
#!/bin/sh
set -e
: "${POSTGRES_USER:=postgres}" "${POSTGRES_DB:=$POSTGRES_USER}" "${PGDATA:=/var/lib/postgresql/data}"
export PGDATA
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
    echo >&2 'Error: Database is uninitialized and superuser password is not specified.'
    exit 1
  fi
  echo "$POSTGRES_PASSWORD" > /tmp/password
  initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust \
         --auth-host=scram-sha-256 --no-sync $POSTGRES_INITDB_ARGS >/dev/null
  rm -f /tmp/password
  echo "host all all all ${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >> "$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -c unix_socket_directories=/var/run/postgresql" -w start >/dev/null
  run() { psql -h /var/run/postgresql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" "$@"; }
  [ "$POSTGRES_DB" = postgres ] || run -d postgres -qc "CREATE DATABASE \"$POSTGRES_DB\""
  for f in /docker-entrypoint-initdb.d/*.sql; do [ -f "$f" ] && run -d "$POSTGRES_DB" -qf "$f"; done
  pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
  echo; echo 'PostgreSQL init process complete; ready for start up.'; echo
fi
exec "$@"
X
    chmod 755 "$root/bin/docker-entrypoint.sh"
}

import_image() {
    chmod 1777 "$root/tmp"
    chmod 700 "$root/var/lib/postgresql/data"
    chmod 2777 "$root/var/run/postgresql"
    tar -C "$root" --owner=0 --group=0 --numeric-owner -c --exclude ./var/lib/postgresql --exclude ./var/run . >"$root.tar"
    tar -C "$root" --owner=999 --group=999 --numeric-owner -r -f "$root.tar" ./var/lib/postgresql ./var/run
    docker import \
        --change "ENV PATH=$prefix/bin:/bin" --change "ENV PGDATA=/var/lib/postgresql/data" \
        --change "USER 999:999" --change "EXPOSE 5432" --change 'VOLUME ["/var/lib/postgresql/data"]' \
        --change 'ENTRYPOINT ["docker-entrypoint.sh"]' \
        --change 'CMD ["postgres","-c","listen_addresses=*","-c","unix_socket_directories=/var/run/postgresql"]' \
        "$root.tar" "$tag"
}

trap 'rm -rf "$root" "$root.tar"' EXIT
copy_system
copy_server "$@"
copy_libraries
write_entrypoint
import_image
