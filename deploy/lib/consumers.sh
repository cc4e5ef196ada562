# shellcheck shell=bash
# Two applications: each logs in every 50 ms with what stands in its file at that moment, tells which version it uses, and writes
# down every attempt. They are what a rotation must not break.
# Needs common.sh and the variables of servers.env. It knows nothing of Keyfall but the two files.

# consume NAME FILE LOGIN: until TERM. LOGIN gets a private copy of FILE, which is read once an attempt: a file that is replaced between
# two reads would mix two versions.
consume() {
	local name=$1 file=$2 login=$3 log=$DIR/consumers/$1.log copy=$DIR/private/$1.copy
	local lines version='' seen='' answer word stopping='' idle began=0 left
	cd "$DIR/consumers" || exit 1
	trap '' HUP INT
	trap 'stopping=1' TERM
	# Nobody writes to this pipe: reading from it with a limit is a pause without a process.
	exec {idle}<> <(:)
	while [ -z "$stopping" ]; do
		left=$((50000 - (${EPOCHREALTIME//[.,]/} - began)))
		if [ "$left" -gt 0 ]; then
			printf -v left '0.%06d' "$left"
			read -rt "$left" -u "$idle" _ || true
		fi
		began=${EPOCHREALTIME//[.,]/}
		if [ -z "$seen" ] && [ ! -e "$file" ]; then continue; fi
		lines=()
		mapfile -t lines 2>/dev/null <"$file" || true
		printf '%s\n' "${lines[@]}" >"$copy"
		version=''
		if [[ "${lines[*]}" =~ (version|VERSION)=([a-z0-9_]+) ]]; then version=${BASH_REMATCH[2]}; fi
		if [ "$version" != "$seen" ] && [ -n "$version" ]; then cp "$copy" "$DIR/captured/$name/$version"; fi
		word=ok
		answer=$("$login" "$copy" 2>&1) || word=FAILED
		# A rotation ends the sessions of the old credential, and on Redis also those that may be too old, because it tells ages in whole
		# seconds only. A session that is ended after its login was no refused login; it is counted apart.
		if [ "$word" = FAILED ] && [[ $answer == *'terminating connection due to administrator command'* ]]; then word='cut'; fi
		if [ "$word" = ok ]; then answer=''; fi
		printf '%s %s %s %s\n' "$began" "$word" "${version:-none}" "${answer//$'\n'/ }" >>"$log"
		if [ "$word" = ok ] && [ "$version" != "$seen" ]; then
			printf '%s\n' "$version" >"${file%/*}/.$name.part"
			mv "${file%/*}/.$name.part" "${file%/*}/$name.version"
			seen=$version
		fi
	done
}

login_postgres() {
	[ "$(PGSERVICEFILE=$1 PGCONNECT_TIMEOUT=10 "$KEYFALL_PSQL" -X -q -A -t -w -d service=orders -c 'select 1')" = 1 ]
}

# login_redis FILE: spoken by hand over a socket of the shell, which costs no process.
login_redis() {
	local user password socket first='' second='' code=0
	user=$(value_of REDIS_USERNAME "$1")
	password=$(value_of REDIS_PASSWORD "$1")
	{ exec {socket}<>"/dev/tcp/$KEYFALL_REDIS_HOST/$KEYFALL_REDIS_PORT"; } 2>/dev/null || {
		printf 'no connection\n'
		return 1
	}
	printf 'AUTH %s %s\r\nINCR session:logins\r\n' "$user" "$password" >&"$socket"
	read -rt 10 -u "$socket" first || true
	if [[ $first == +OK* ]]; then read -rt 10 -u "$socket" second || code=$?; fi
	exec {socket}>&-
	# The end of the stream, and not the end of patience, which is above 128.
	if [ "$code" -eq 1 ]; then second='terminating connection due to administrator command'; fi
	printf '%s %s\n' "${first%$'\r'}" "${second%$'\r'}"
	[[ $second == :* ]]
}

start_consumers() {
	consume orders-api "$DIR/apps/orders-api/pg_service.conf" login_postgres </dev/null >>"$DIR/consumers.log" 2>&1 &
	printf '%s\n' $! >"$DIR/orders-api.pid"
	consume cache-worker "$DIR/apps/cache-worker/redis.env" login_redis </dev/null >>"$DIR/consumers.log" 2>&1 &
	printf '%s\n' $! >"$DIR/cache-worker.pid"
}

# attempts NAME [WORD]: logins so far, of one outcome or all.
attempts() { grep -c " ${2:-[a-zA-Z]*} " "$DIR/consumers/$1.log" 2>/dev/null || true; }

# versions_used NAME: with how many different credentials it logged in.
versions_used() { awk '$2 == "ok" { print $3 }' "$DIR/consumers/$1.log" | sort -u | wc -l; }

# none_failed NAME: shows the failures there are.
none_failed() {
	if grep ' FAILED ' "$DIR/consumers/$1.log" | head -n 5; then return 1; fi
	[ "$(attempts "$1" ok)" -gt 0 ]
}
