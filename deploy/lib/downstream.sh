# shellcheck shell=bash
# Trying delivered credentials by plain psql and redis-cli, as an application or a thief would. No password is ever an argument or in
# the environment: it stays in files of mode 0600, and in standard input for redis-cli.
# Needs common.sh, screen.sh, DIR and the variables of servers.env. It knows nothing of Keyfall.

# settings_of_servers FILE: the variables of deploy/servers; a value is the rest of its line.
settings_of_servers() {
	local name value
	while IFS='=' read -r name value; do
		case $name in KEYFALL_[A-Z0-9_]*) printf -v "$name" '%s' "$value" ;; esac
	done <"$1"
}

# value_of NAME FILE: from a dotenv file whose values need no quotes.
value_of() { sed -n "s/^$1=//p" "$2"; }

# service_file FILE: what was delivered, as a libpq service file called `orders`, whichever way it was written.
service_file() {
	local file=$1 out=$DIR/private/service.$BASHPID user password
	case $(head -n 1 "$file") in
	'#'* | '['*)
		cp "$file" "$out"
		printf '%s\n' "$out"
		return 0
		;;
	*=*)
		user=$(value_of DB_USER "$file")
		password=$(value_of DB_PASSWORD "$file")
		;;
	*) IFS=: read -r _ _ _ user password <"$file" ;;
	esac
	printf '[orders]\nhost=%s\nport=%s\ndbname=orders\nuser=%s\npassword=%s\nsslmode=verify-full\nsslrootcert=%s\n' "$KEYFALL_PG_HOST" \
		"$KEYFALL_PG_PRIMARY_PORT" "$user" "$password" "$KEYFALL_PG_CA_FILE" >"$out"
	printf '%s\n' "$out"
}

# psql_with FILE PORT [SQL]: one login with what FILE says, at the server on PORT.
psql_with() {
	local service code=0
	service=$(service_file "$1")
	PGSERVICEFILE=$service PGCONNECT_TIMEOUT=10 "$KEYFALL_PSQL" -X -q -A -t -w -d "service=orders port=$2" \
		-c "${3:-select 1}" </dev/null || code=$?
	rm -f "$service"
	return "$code"
}

# psql_admin: as the administrator of the throw-away cluster, who works behind Keyfall's back. SQL is standard input.
psql_admin() {
	PGPASSFILE=$KEYFALL_PG_PASSFILE "$KEYFALL_PSQL" -X -q -A -t -w -v ON_ERROR_STOP=1 -h "$KEYFALL_PG_HOST" \
		-p "$KEYFALL_PG_PRIMARY_PORT" -U "$KEYFALL_PG_ADMIN_USER" -d postgres
}

# redis_with FILE PORT: the answers to a login with what FILE says, and to a ping.
redis_with() {
	printf 'AUTH %s %s\nDBSIZE\n' "$(value_of REDIS_USERNAME "$1")" "$(value_of REDIS_PASSWORD "$1")" |
		"$KEYFALL_REDIS_CLI" -h "$KEYFALL_REDIS_HOST" -p "$2" --no-auth-warning 2>&1
}

pg_accepts() { psql_with "$1" "$2" >/dev/null; }

# pg_refuses FILE PORT: the server read the password and said no. Anything else, such as no answer, proves nothing.
pg_refuses() {
	local answer
	if answer=$(psql_with "$1" "$2" 2>&1); then
		printf 'accepted\n'
		return 1
	fi
	printf '%s\n' "$answer"
	[[ $answer == *'password authentication failed for user'* ]]
}

redis_accepts() { [[ $(redis_with "$1" "$2") == OK$'\n'[0-9]* ]]; }

redis_refuses() {
	local answer
	answer=$(redis_with "$1" "$2")
	printf '%s\n' "$answer"
	[[ $answer == WRONGPASS* ]]
}
