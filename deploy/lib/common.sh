# shellcheck shell=bash
# What every script under deploy/ and tests/run shares: words on the terminal, free ports, bounded waits.
# It knows nothing of PostgreSQL, Redis or Keyfall.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
	say "error: $*"
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# now_ms: milliseconds of a clock, for measuring how long something took.
now_ms() {
	local seconds=${EPOCHREALTIME%[.,]*} fraction=${EPOCHREALTIME#*[.,]}
	printf '%s\n' "$((seconds * 1000 + 10#$fraction / 1000))"
}

# free_port: a loopback port that nobody held a moment ago. perl-base is essential on Debian, python is not.
# Somebody else may take it before we do, so whoever starts a server tries again with another one.
free_port() {
	perl -MIO::Socket::INET -e \
		'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 0, Proto => "tcp")->sockport, "\n"'
}

# random_word: 32 characters of [a-z0-9], from 160 bits of the kernel's randomness.
random_word() {
	head -c 20 /dev/urandom | base32 -w 0 | tr 'A-Z2-7' 'a-z2-7'
}

# wait_for SECONDS WHAT COMMAND...: asks until COMMAND succeeds; a bounded wait on a value.
wait_for() {
	local seconds=$1 what=$2 deadline
	shift 2
	deadline=$(($(now_ms) + seconds * 1000))
	until "$@" >/dev/null 2>&1; do
		if [ "$(now_ms)" -ge "$deadline" ]; then
			say "error: $what did not happen within $seconds s"
			return 1
		fi
		sleep 0.03
	done
}

# write_secret FILE: standard input becomes FILE, readable by nobody but its owner, never readable in between.
write_secret() {
	(
		umask 077
		cat >"$1"
	)
}
