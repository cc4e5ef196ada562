# shellcheck shell=bash
# Where the programs of the downstream servers come from: the machine, apt, or a private unpacking of Debian packages.
# It never starts, stops or configures anything that belongs to the machine.

# Root's servers run as another user, who cannot look into root's home.
if [ -n "${KEYFALL_SERVERS_CACHE:-}" ]; then
	CACHE=$KEYFALL_SERVERS_CACHE
elif is_root; then
	CACHE=/var/cache/keyfall
else
	CACHE=${XDG_CACHE_HOME:-${HOME:?set HOME or KEYFALL_SERVERS_CACHE}/.cache}/keyfall
fi
UNPACKED=$CACHE/debs
WRAPPERS=$CACHE/bin

# newest_pg_bin ROOT: the folder of the newest complete PostgreSQL under ROOT.
newest_pg_bin() {
	local folder best=
	while IFS= read -r folder; do
		if [ -x "$folder/postgres" ] && [ -x "$folder/initdb" ] && [ -x "$folder/pg_basebackup" ] && [ -x "$folder/psql" ]; then
			best=$folder
		fi
	done < <(printf '%s\n' "$1"/usr/lib/postgresql/*/bin | sort -V)
	[ -n "$best" ] && printf '%s\n' "$best"
}

# find_pg_bin: the machine's PostgreSQL, wherever its distribution keeps it.
find_pg_bin() {
	local program
	newest_pg_bin "" && return
	program=$(command -v initdb) || return 1
	program=$(dirname "$(readlink -f "$program")")
	[ -x "$program/postgres" ] && [ -x "$program/psql" ] && printf '%s\n' "$program"
}

# find_program NAME: also looks where an ordinary user's PATH does not.
find_program() {
	PATH="$PATH:/usr/sbin:/usr/local/sbin:/sbin" command -v "$1"
}

# locate: sets PG_BIN, REDIS_SERVER, REDIS_CLI, PGBOUNCER and OPENSSL to what is there, and MISSING to what is not.
locate() {
	local private=${KEYFALL_SERVERS_PRIVATE:-}
	MISSING=()
	PG_BIN=$WRAPPERS/postgresql
	REDIS_SERVER=$WRAPPERS/redis-server
	REDIS_CLI=$WRAPPERS/redis-cli
	PGBOUNCER=$WRAPPERS/pgbouncer
	OPENSSL=$WRAPPERS/openssl
	[ -x "$PG_BIN/postgres" ] || PG_BIN=
	[ -x "$REDIS_SERVER" ] || REDIS_SERVER=
	[ -x "$REDIS_CLI" ] || REDIS_CLI=
	[ -x "$PGBOUNCER" ] || PGBOUNCER=
	[ -x "$OPENSSL" ] || OPENSSL=
	if [ "$private" != 1 ]; then
		PG_BIN=$(find_pg_bin || printf '%s' "$PG_BIN")
		REDIS_SERVER=$(find_program redis-server || printf '%s' "$REDIS_SERVER")
		REDIS_CLI=$(find_program redis-cli || printf '%s' "$REDIS_CLI")
		PGBOUNCER=$(find_program pgbouncer || printf '%s' "$PGBOUNCER")
		OPENSSL=$(find_program openssl || printf '%s' "$OPENSSL")
	fi
	[ -n "$PG_BIN" ] || MISSING+=(postgresql)
	if [ -z "$REDIS_SERVER" ] || [ -z "$REDIS_CLI" ]; then MISSING+=(redis-server); fi
	[ -n "$PGBOUNCER" ] || MISSING+=(pgbouncer)
	[ -n "$OPENSSL" ] || MISSING+=(openssl)
}

# install_packages: makes every program available; quick when there is nothing to do.
install_packages() {
	local lock
	locate
	[ ${#MISSING[@]} -gt 0 ] || return 0
	have apt-get || fail "missing: ${MISSING[*]}. This is not Debian: install PostgreSQL, Redis, pgbouncer and openssl by your own means, then run this again"
	mkdir -p "$CACHE"
	exec {lock}>"$CACHE/install.lock"
	flock "$lock"
	locate
	if [ ${#MISSING[@]} -gt 0 ]; then
		if [ "${KEYFALL_SERVERS_PRIVATE:-}" = 1 ]; then
			unpack_privately "${MISSING[@]}"
		elif is_root; then
			apt_install env "${MISSING[@]}"
		elif have sudo && sudo -n true 2>/dev/null; then
			apt_install "sudo -n env" "${MISSING[@]}"
		else
			unpack_privately "${MISSING[@]}"
		fi
		locate
	fi
	flock -u "$lock"
	exec {lock}>&-
	[ ${#MISSING[@]} -eq 0 ] || fail "still missing after installing: ${MISSING[*]}"
}

# apt_install AS_ROOT PACKAGE...: into the machine, without starting a service or making a cluster, now or at boot.
# A subshell, so that its trap is its own.
apt_install() (
	local as_root=$1 policy='' config='' package log=$CACHE/apt-install.log
	shift
	mkdir -p "$CACHE"
	say "apt-get install $* (services stay off)"
	# A package's own script would start its server: for the length of this installation nothing may be started.
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		policy=/usr/sbin/policy-rc.d
		# shellcheck disable=SC2086 # as_root is a command with its arguments
		printf '#!/bin/sh\nexit 101\n' | $as_root sh -c "cat >$policy && chmod 755 $policy"
	fi
	if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
		config=1
		# shellcheck disable=SC2086
		printf 'create_main_cluster = false\n' |
			$as_root sh -c 'mkdir -p /etc/postgresql-common && cat >/etc/postgresql-common/createcluster.conf'
	fi
	# shellcheck disable=SC2064,SC2086
	[ -z "$policy" ] || trap "$as_root rm -f $policy" EXIT
	# A broken list of a third party must not stop us: what counts is whether the installation works.
	# shellcheck disable=SC2086
	$as_root DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 </dev/null ||
		say "apt-get update had errors; going on with the lists that are there"
	# shellcheck disable=SC2086
	$as_root DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
		-o Dpkg::Options::=--force-confold install -y --no-install-recommends "$@" >>"$log" 2>&1 </dev/null || {
		tail -n 30 "$log" >&2
		fail "apt-get could not install $*; the end of its output is above"
	}
	for package in "$@"; do
		case $package in
		redis-server | pgbouncer) keep_off_at_boot "$as_root" "$package" ;;
		esac
	done
	[ -z "$config" ] || say "left /etc/postgresql-common/createcluster.conf: a PostgreSQL installed later makes no cluster by itself"
)

# keep_off_at_boot AS_ROOT SERVICE: we wanted the program, not a server of the machine's own.
keep_off_at_boot() {
	local as_root=$1
	# shellcheck disable=SC2086
	if have systemctl; then
		$as_root systemctl --quiet disable "$2" >/dev/null 2>&1 || true
	else
		$as_root update-rc.d "$2" disable >/dev/null 2>&1 || true
	fi
}

# private_apt COMMAND...: apt-get with its state in our cache, so that it needs no right on the machine's.
private_apt() {
	local tool=$1
	shift
	"$tool" -qq \
		-o Dir::State="$CACHE/apt/state" -o Dir::State::status="$CACHE/apt/status" \
		-o Dir::Cache="$CACHE/apt/cache" -o Dir::Log="$CACHE/apt/log" \
		-o Debug::NoLocking=true -o APT::Sandbox::User="$(id -un)" "$@"
}

# unpack_privately PACKAGE...: the packages and what they need beyond the machine's, unpacked into the cache.
unpack_privately() {
	local root=$UNPACKED needed=() package
	say "unpacking $* privately into $root"
	mkdir -p "$CACHE/apt/state/lists/partial" "$CACHE/apt/cache/archives/partial" "$CACHE/apt/log" "$CACHE/apt/files" "$root"
	# apt decides what is needed by what is installed. The packages we unpack count as absent, so that a server and its
	# own libraries come from one place and in one version; the demands of the others are dropped, or apt would first
	# want to repair what this seems to break.
	awk 'BEGIN { RS = ""; ORS = "\n\n" } !/^Package: (postgresql|libpq5|redis|pgbouncer|openssl|liblzf1|libhiredis)[^\n]*\n/' \
		/var/lib/dpkg/status | grep -vE '^(Pre-Depends|Depends|Conflicts|Breaks):' >"$CACHE/apt/status"
	# Hooks of the machine's own (an image that cleans its caches) fail here without harm, so its word is not final.
	private_apt apt-get update >"$CACHE/apt/log/update" 2>&1 || true
	# LLVM serves only the query compiler, which throw-away servers leave off; the rest belongs to a running system.
	while read -r package; do
		case $package in
		libllvm* | ssl-cert | systemd* | adduser | logrotate | cron* | ucf | lsb-base | init-system-helpers | libz3* | sensible-utils | netbase | libc6 | libc-bin) ;;
		*) needed+=("$package") ;;
		esac
	done < <(private_apt apt-get -s --no-install-recommends install "$@" | awk '$1 == "Inst" { print $2 }')
	if [ ${#needed[@]} -eq 0 ]; then
		cat "$CACHE/apt/log/update" >&2
		fail "apt-get finds no package for $*: are Debian's sources in /etc/apt reachable?"
	fi
	say "downloading ${#needed[@]} packages"
	(cd "$CACHE/apt/files" && private_apt apt-get download "${needed[@]}" >&2) || fail "apt-get download failed: ${needed[*]}"
	for package in "$CACHE"/apt/files/*.deb; do
		dpkg-deb -x "$package" "$root" || fail "cannot unpack $package"
	done
	rm -rf "$CACHE/apt"
	write_wrappers
}

# write_wrappers: a script per program that gives it, and only it, the unpacked libraries.
write_wrappers() {
	local folder libraries= staging=$WRAPPERS.$$ program
	while IFS= read -r folder; do
		libraries=${libraries:+$libraries:}$folder
	done < <(find "$UNPACKED/lib" "$UNPACKED/usr/lib" -name 'lib*.so.*' -not -path '*/postgresql/*' -printf '%h\n' 2>/dev/null | sort -u)
	mkdir -p "$staging/postgresql"
	wrap() {
		printf '#!/bin/sh\nLD_LIBRARY_PATH=%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\nexport LD_LIBRARY_PATH\nexec %s "$@"\n' \
			"$libraries" "$1" >"$2"
		chmod 755 "$2"
	}
	if folder=$(newest_pg_bin "$UNPACKED"); then
		for program in "$folder"/*; do wrap "$program" "$staging/postgresql/${program##*/}"; done
	fi
	for program in usr/bin/redis-server usr/bin/redis-cli usr/sbin/pgbouncer usr/bin/openssl; do
		[ ! -e "$UNPACKED/$program" ] || wrap "$UNPACKED/$program" "$staging/${program##*/}"
	done
	rm -rf "$WRAPPERS"
	mv "$staging" "$WRAPPERS"
}

# need_compiler: crates that hold C are compiled with cc, which is also what links every Rust program.
need_compiler() {
	if have cc; then return 0; fi
	if have apt-get && is_root; then
		apt_install env gcc libc6-dev
	elif have apt-get && have sudo && sudo -n true 2>/dev/null; then
		apt_install "sudo -n env" gcc libc6-dev
	fi
	have cc || fail "no C compiler: install one (Debian: apt-get install gcc libc6-dev), then run this again"
}
