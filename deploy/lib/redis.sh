# shellcheck shell=bash
# The throw-away Redis primary and its replica: an ACL file each, because ACL changes are not replicated.
# Needs common.sh, packages.sh and the variables of deploy/servers: DIR, DATA, SECRETS, as_server, port_of, set_port.

REDIS_ADMIN=keyfall-admin

sha256_hex() { printf '%s' "$1" | sha256sum | cut -d ' ' -f 1; }

# redis_admin PORT WORD...: one command as the administrator; the password travels on standard input.
redis_admin() {
	local port=$1 answer
	shift
	answer=$(printf 'AUTH %s %s\n%s\n' "$REDIS_ADMIN" "$(cat "$SECRETS/redis-admin.password")" "$*" |
		"$REDIS_CLI" -h 127.0.0.1 -p "$port" --no-auth-warning 2>&1)
	case $answer in
	OK*) printf '%s\n' "${answer#OK$'\n'}" ;;
	*) return 1 ;;
	esac
}

redis_answers() { [ "$(redis_admin "$1" PING)" = PONG ]; }

linked() { redis_admin "$(port_of redis2)" INFO replication | tr -d '\r' | grep -qx 'master_link_status:up'; }

# start_redis_node NAME [LINE...]: DATA/NAME on a free port, with further lines of configuration.
start_redis_node() {
	local name=$1 folder=$DATA/$1 port attempt
	shift
	if running "$folder/pid"; then return 0; fi
	if [ ! -d "$folder" ]; then
		mkdir -p "$folder"
		printf 'user %s on #%s ~* &* +@all\nuser keyfall-replica on #%s resetchannels -@all +psync +replconf +ping\nuser default off resetchannels -@all\n' \
			"$REDIS_ADMIN" "$(sha256_hex "$(cat "$SECRETS/redis-admin.password")")" \
			"$(sha256_hex "$(cat "$SECRETS/redis-replica.password")")" | write_secret "$folder/users.acl"
	fi
	for attempt in 1 2 3 4 5; do
		port=$(port_of "$name" || free_port)
		{
			printf '%s\n' 'bind 127.0.0.1' "port $port" 'protected-mode yes' "dir $folder" "aclfile $folder/users.acl" \
				'save ""' 'appendonly no' 'repl-diskless-sync-delay 0' 'daemonize yes' \
				"pidfile $folder/pid" "logfile $DATA/log/$name.log" "$@"
		} | write_secret "$folder/redis.conf"
		give "$folder"
		as_server "$REDIS_SERVER" "$folder/redis.conf" </dev/null >>"$DIR/log/$name.log" 2>&1 || true
		if wait_for 10 "an answer of $name" redis_answers "$port"; then
			set_port "$name" "$port"
			return 0
		fi
		grep -q 'Address already in use' "$DATA/log/$name.log" || break
		forget_port "$name"
	done
	cat "$DIR/log/$name.log" >&2
	tail -n 20 "$DATA/log/$name.log" >&2
	fail "Redis ($name) did not answer after $attempt attempts; the end of its log is above"
}

start_redis() {
	[ -e "$SECRETS/redis-admin.password" ] || random_word | tr -d '\n' | write_secret "$SECRETS/redis-admin.password"
	[ -e "$SECRETS/redis-replica.password" ] || random_word | tr -d '\n' | write_secret "$SECRETS/redis-replica.password"
	start_redis_node redis
}

start_redis2() {
	start_redis_node redis2 "replicaof 127.0.0.1 $(port_of redis)" 'masteruser keyfall-replica' \
		"masterauth $(cat "$SECRETS/redis-replica.password")"
	wait_for 30 "replication between the Redis nodes" linked
}
