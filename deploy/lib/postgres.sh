# shellcheck shell=bash
# The throw-away PostgreSQL primary, its streaming replica, and pgbouncer in front of the primary.
# Needs common.sh, packages.sh and the variables of deploy/servers: DIR, DATA, SECRETS, as_server, port_of, set_port.

PG_ADMIN=keyfall_admin

# make_certificates FOLDER: a CA of our own and a server certificate for localhost and 127.0.0.1.
make_certificates() {
	local folder=$1
	cat >"$folder/openssl.cnf" <<-'CONF'
		[req]
		distinguished_name = dn
		prompt = no
		[dn]
		CN = Keyfall throw-away CA
		[ca]
		basicConstraints = critical,CA:TRUE
		keyUsage = critical,keyCertSign,cRLSign
		subjectKeyIdentifier = hash
		[server]
		basicConstraints = critical,CA:FALSE
		keyUsage = critical,digitalSignature
		extendedKeyUsage = serverAuth
		subjectAltName = DNS:localhost,IP:127.0.0.1
		authorityKeyIdentifier = keyid
	CONF
	(
		umask 077
		cd "$folder"
		export OPENSSL_CONF=$folder/openssl.cnf
		"$OPENSSL" req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 30 \
			-config openssl.cnf -extensions ca -keyout ca.key -out ca.crt
		"$OPENSSL" req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 \
			-config openssl.cnf -subj /CN=localhost -keyout server.key -out server.csr
		"$OPENSSL" x509 -req -sha256 -days 30 -in server.csr -CA ca.crt -CAkey ca.key -set_serial "0x$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n' | sed 's/^./1/')" \
			-extfile openssl.cnf -extensions server -out server.crt
	) 2>"$DIR/log/openssl.log" || fail "openssl could not make the certificates: $DIR/log/openssl.log"
}

# start_postmaster NAME: starts the cluster in DATA/NAME on a free port; a port lost to somebody else is drawn again.
start_postmaster() {
	local name=$1 port attempt
	for attempt in 1 2 3 4 5; do
		port=$(port_of "$name" || free_port)
		: >"$DATA/log/$name.log"
		give "$DATA/log/$name.log"
		if as_server "$PG_BIN/pg_ctl" -D "$DATA/$name" -l "$DATA/log/$name.log" -w -t 60 -s -o "-p $port" start </dev/null >>"$DIR/log/pg_ctl.log" 2>&1; then
			set_port "$name" "$port"
			return 0
		fi
		grep -q 'Address already in use' "$DATA/log/$name.log" || break
		forget_port "$name"
	done
	tail -n 20 "$DATA/log/$name.log" >&2
	fail "PostgreSQL ($name) did not start after $attempt attempts; the end of its log is above"
}

pg_alive() { as_server "$PG_BIN/pg_ctl" -D "$DATA/$1" status >/dev/null 2>&1; }

# psql_admin NAME ARGUMENT...: as the administrator, on the server NAME; the password comes from a file.
psql_admin() {
	local name=$1
	shift
	PGPASSFILE=$SECRETS/pgpass "$PG_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 \
		-h 127.0.0.1 -p "$(port_of "$name")" -U "$PG_ADMIN" -d postgres "$@"
}

start_postgres() {
	local password fsync=${KEYFALL_SERVERS_FSYNC:-off}
	if [ -e "$DATA/postgres/PG_VERSION" ]; then
		pg_alive postgres || start_postmaster postgres
		return 0
	fi
	password=$(random_word)
	printf '%s' "$password" | write_secret "$SECRETS/pg-admin.password"
	# Any port: the ports are not known yet and the replica's differs.
	printf '127.0.0.1:*:*:%s:%s\n' "$PG_ADMIN" "$password" | write_secret "$SECRETS/pgpass"
	printf '%s\n' "$password" | write_secret "$DATA/pg-admin.pwfile"
	give "$DATA/pg-admin.pwfile"
	as_server "$PG_BIN/initdb" -D "$DATA/postgres" -U "$PG_ADMIN" --auth=scram-sha-256 --pwfile="$DATA/pg-admin.pwfile" \
		--encoding=UTF8 --locale=C --no-sync --no-instructions >"$DIR/log/initdb.log" 2>&1 || {
		cat "$DIR/log/initdb.log" >&2
		fail "initdb failed; its output is above"
	}
	rm -f "$DATA/pg-admin.pwfile"
	cp "$SECRETS/ca.crt" "$SECRETS/server.crt" "$SECRETS/server.key" "$DATA/postgres/"
	cat >>"$DATA/postgres/postgresql.conf" <<-CONF
		listen_addresses = '127.0.0.1'
		unix_socket_directories = ''
		ssl = on
		ssl_ca_file = 'ca.crt'
		ssl_cert_file = 'server.crt'
		ssl_key_file = 'server.key'
		password_encryption = 'scram-sha-256'
		wal_level = replica
		wal_keep_size = '256MB'
		wal_retrieve_retry_interval = '200ms'
		max_connections = 200
		shared_buffers = '32MB'
		jit = off
		log_connections = on
		log_statement = '${KEYFALL_SERVERS_LOG_STATEMENT:-ddl}'
		fsync = $fsync
		full_page_writes = $fsync
		autovacuum_naptime = '5min'
	CONF
	# The first three lines exist to be met: a refusal that says nothing about the password, and the two ways in which a
	# server can ask for a password that Keyfall must never give.
	cat >"$DATA/postgres/pg_hba.conf" <<-'CONF'
		host    keyfall_closed  all                  127.0.0.1/32  reject
		host    all             keyfall_ask_clear    127.0.0.1/32  password
		host    all             keyfall_ask_md5      127.0.0.1/32  md5
		hostssl all             all                  127.0.0.1/32  scram-sha-256
		host    all             all                  127.0.0.1/32  scram-sha-256
		host    replication     keyfall_replicator   127.0.0.1/32  scram-sha-256
	CONF
	give "$DATA/postgres"
	chmod 600 "$DATA/postgres/server.key"
	start_postmaster postgres
	wait_for 30 "a login on the PostgreSQL primary" psql_admin postgres -c 'select 1'
}

streaming() { [ "$(psql_admin postgres -c "select count(*) from pg_stat_replication where state = 'streaming'")" -ge 1 ]; }

in_recovery() { [ "$(psql_admin replica -c 'select pg_is_in_recovery()')" = t ]; }

start_replica() {
	local password port
	if [ ! -e "$DATA/replica/standby.signal" ]; then
		password=$(random_word)
		port=$(port_of postgres)
		# The statement travels on standard input: an argument would show in the list of processes.
		psql_admin postgres <<-SQL
			create role keyfall_replicator login replication password '$password';
		SQL
		printf '127.0.0.1:%s:*:keyfall_replicator:%s\n' "$port" "$password" | write_secret "$DATA/replicator.pgpass"
		give "$DATA/replicator.pgpass"
		as_server env PGPASSFILE="$DATA/replicator.pgpass" "$PG_BIN/pg_basebackup" -D "$DATA/replica" -R -X stream -c fast --no-sync -w \
			-h 127.0.0.1 -p "$port" -U keyfall_replicator >"$DIR/log/pg_basebackup.log" 2>&1 || {
			cat "$DIR/log/pg_basebackup.log" >&2
			fail "pg_basebackup failed; its output is above"
		}
		if [ -n "${KEYFALL_REPLICA_DELAY:-}" ]; then
			printf "recovery_min_apply_delay = '%s'\n" "$KEYFALL_REPLICA_DELAY" >>"$DATA/replica/postgresql.conf"
		fi
	fi
	pg_alive replica || start_postmaster replica
	wait_for 30 "streaming from the PostgreSQL primary" streaming
	wait_for 30 "a login on the PostgreSQL replica" in_recovery
}

pgbouncer_answers() {
	PGPASSFILE=$SECRETS/pgpass "$PG_BIN/psql" -X -q -A -t -h 127.0.0.1 -p "$1" -U "$PG_ADMIN" -d postgres -c 'select 1'
}

start_pgbouncer() {
	local password port attempt folder=$DATA/pgbouncer
	if running "$folder/pid"; then return 0; fi
	if [ ! -d "$folder" ]; then
		password=$(random_word)
		mkdir -p "$folder"
		# pg_shadow is shared, its grants are per database: template1 passes them on to databases made later.
		psql_admin postgres <<-SQL
			create role keyfall_pooler login password '$password';
			grant select on pg_catalog.pg_shadow to keyfall_pooler;
			\\c template1
			grant select on pg_catalog.pg_shadow to keyfall_pooler;
		SQL
		printf '"keyfall_pooler" "%s"\n' "$password" | write_secret "$folder/users.txt"
	fi
	for attempt in 1 2 3 4 5; do
		port=$(port_of pgbouncer || free_port)
		cat >"$folder/pgbouncer.ini" <<-CONF
			[databases]
			* = host=127.0.0.1 port=$(port_of postgres) auth_user=keyfall_pooler
			[pgbouncer]
			listen_addr = 127.0.0.1
			listen_port = $port
			unix_socket_dir =
			auth_type = scram-sha-256
			auth_file = $folder/users.txt
			auth_query = select usename, passwd from pg_catalog.pg_shadow where usename = \$1
			admin_users = keyfall_pooler
			pool_mode = ${KEYFALL_PGBOUNCER_POOL_MODE:-session}
			query_wait_timeout = 10
			ignore_startup_parameters = extra_float_digits,options
			client_tls_sslmode = allow
			client_tls_ca_file = $DATA/postgres/ca.crt
			client_tls_cert_file = $DATA/postgres/server.crt
			client_tls_key_file = $DATA/postgres/server.key
			server_tls_ca_file = $DATA/postgres/ca.crt
			pidfile = $folder/pid
			logfile = $DATA/log/pgbouncer.log
		CONF
		give "$folder"
		as_server "$PGBOUNCER" -d -q "$folder/pgbouncer.ini" </dev/null >>"$DIR/log/pgbouncer.log" 2>&1 || true
		if wait_for 10 "a login through pgbouncer" pgbouncer_answers "$port"; then
			set_port pgbouncer "$port"
			return 0
		fi
		grep -q 'Address already in use' "$DATA/log/pgbouncer.log" || break
		forget_port pgbouncer
	done
	tail -n 20 "$DIR/log/pgbouncer.log" "$DATA/log/pgbouncer.log" >&2
	fail "pgbouncer did not answer after $attempt attempts; the end of its log is above"
}
