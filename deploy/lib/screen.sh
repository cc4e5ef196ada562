# shellcheck shell=bash
# What deploy/quickstart shows: scenes, numbered steps, what was found to hold. Colours only on a terminal.
# Needs common.sh. It knows nothing of what is being shown.

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
	BOLD=$'\e[1m' DIM=$'\e[2m' GREEN=$'\e[32m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
	BOLD='' DIM='' GREEN='' RED='' PLAIN=''
fi

STEP=0
HELD=0

scene() { printf '\n%s%s%s\n' "$BOLD" "$*" "$PLAIN"; }

# step SENTENCE: what happens next.
step() {
	STEP=$((STEP + 1))
	printf '%s%2d.%s %s\n' "$BOLD" "$STEP" "$PLAIN" "$*"
}

# quote: standard input as it was said by a program.
quote() { sed "s/^/      $DIM| /; s/\$/$PLAIN/"; }

# held SENTENCE: something that was looked at and is so.
held() {
	HELD=$((HELD + 1))
	printf '    %sok%s %s\n' "$GREEN" "$PLAIN" "$*"
}

# broken SENTENCE: the end.
broken() {
	printf '    %sNOT SO%s %s\n' "$RED" "$PLAIN" "$*"
	exit 1
}

# check SENTENCE COMMAND...: shows whether the command succeeds; the first one that does not ends everything.
check() {
	local sentence=$1
	shift
	if "$@" >"$DIR/last.out" 2>&1; then
		held "$sentence"
	else
		quote <"$DIR/last.out"
		broken "$sentence"
	fi
}

# row NAME VALUE: a line of the table at the end.
row() { printf '  %-44s %s\n' "$1" "$2"; }
