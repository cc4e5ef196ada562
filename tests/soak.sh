# shellcheck shell=bash
# The soak: the fault harnesses, unit by unit, in turns, for as long as there is time. What was run is kept over runs, so that a
# run goes on where the last one stopped. Sourced by tests/run, whose functions it uses; it knows no test's inside.

# How far it came: a line for each unit that ended,
# `run commit track unit result seconds covered…`, where covered is `what number [of whole]`, several by `;`.
SOAK_STATE=${XDG_STATE_HOME:-${HOME:?set HOME}/.local/state}/keyfall/soak
SOAK_TRACKS=(seeds cells disk kills-sqlite kills-postgres nodes clocks mass quiet)
# The whole of what has no end of its own.
declare -A SOAK_WHOLE=([seeds]=100000 ['kills sqlite']=1000 ['kills postgres']=200 ['nodes rotations']=10000)

# soak_track TRACK: its test program, the filter of its tests, the variable that says which part is to be run, the parts.
# A number of parts: share I of N. `+N`: a range of N, which goes on without end. `*V`: the variable set to V, again and again, what happens drawn
# anew. `=V`: one part, with the variable set to V.
soak_track() {
	case $1 in
	seeds) printf '%s\n' 'keyfall-*' faults::sim::tests::seeds KEYFALL_SIM_SEEDS +5000 ;;
	cells) printf '%s\n' 'keyfall-*' faults::matrix::tests:: KEYFALL_MATRIX_SLICE 60 ;;
	disk) printf '%s\n' 'keyfall-*' faults::disk KEYFALL_DISK_SLICE 12 ;;
	kills-sqlite) printf '%s\n' 'it-*' kills::sqlite KEYFALL_KILL_SEEDS +50 ;;
	kills-postgres) printf '%s\n' 'it-*' kills::postgres KEYFALL_KILL_SEEDS +20 ;;
	nodes) printf '%s\n' 'it-*' nodes:: KEYFALL_NODES_ROTATIONS '*1000' ;;
	clocks | mass | quiet) printf '%s\n' 'keyfall-*' "faults::$1" KEYFALL_SOAK =1 ;;
	esac
}

# soak_part PARTS UNIT: what the variable is set to for the unit, counted from 0.
soak_part() {
	case $1 in
	+*) printf '%d..%d\n' $(($2 * ${1#+})) $((($2 + 1) * ${1#+})) ;;
	=*) printf '%s\n' "${1#=}" ;;
	\**) printf '%s\n' "${1#\*}" ;;
	*) printf '%d/%d\n' "$2" "$1" ;;
	esac
}

# soak_next TRACK PARTS: the unit that comes now. One that failed in an earlier run comes first, then those that never ran; a track that has
# an end begins anew behind it.
soak_next() {
	awk -F '\t' -v track="$1" -v parts="$2" -v run="$SOAK_RUN" '
		$3 == track { runs[$4]++; result[$4] = $5; last[$4] = $1; if ($4 + 1 > units) units = $4 + 1 }
		END {
			for (unit = 0; unit < units; unit++) if (result[unit] == "failed" && last[unit] != run) { print unit; exit }
			if (parts ~ /^=/) parts = 1
			if (parts ~ /^[+*]/) { for (unit = 0; unit in runs; unit++); print unit; exit }
			best = 0
			for (unit = 1; unit < parts; unit++) if (runs[unit] + 0 < runs[best] + 0) best = unit
			print best
		}' "$SOAK_STATE/units"
}

# soak_seconds TRACK: what its last unit took; for a track that was never run some minutes, or all the time that there is.
soak_seconds() {
	awk -F '\t' -v track="$1" -v unknown="$SOAK_UNKNOWN" '$3 == track { took = $6 } END { print (took > 0 ? took : unknown) }' "$SOAK_STATE/units"
}

# soak_spent TRACK: the seconds that all its units took, in all runs.
soak_spent() {
	awk -F '\t' -v track="$1" '$3 == track { sum += $6 } END { print sum + 0 }' "$SOAK_STATE/units"
}

# soak_choose SECONDS_LEFT: of the tracks whose next unit fits, the one that has had the least time in all runs; nothing where none does.
soak_choose() {
	local track best='' best_spent=0
	for track in "${SOAK_TRACKS[@]}"; do
		[ -z "${SOAK_ABSENT[$track]:-}" ] || continue
		[ "$(soak_seconds "$track")" -le "$1" ] || continue
		if [ -z "$best" ] || [ "${SOAK_SPENT[$track]}" -lt "$best_spent" ]; then
			best=$track best_spent=${SOAK_SPENT[$track]}
		fi
	done
	printf '%s\n' "$best"
}

# soak_one TRACK: runs its next unit and writes down what came of it.
soak_one() {
	local track=$1 program filter variable parts unit part log=$LOGS/soak-$1.log began seconds code=0 result=ok what
	{ read -r program; read -r filter; read -r variable; read -r parts; } < <(soak_track "$track")
	unit=$(soak_next "$track" "$parts")
	# Nothing runs twice in one run: what has an end leaves its time to the others.
	case " ${SOAK_RAN[$track]:-} " in *" $unit "*)
		SOAK_ABSENT[$track]=1
		return 0
		;;
	esac
	SOAK_RAN[$track]="${SOAK_RAN[$track]:-} $unit"
	part=$(soak_part "$parts" "$unit")
	began=$SECONDS
	export "$variable=$part"
	run_programs "$log" . "$program" "$filter" || code=$?
	unset "$variable"
	seconds=$((SECONDS - began))
	SOAK_SPENT[$track]=$((SOAK_SPENT[$track] + seconds + 1))
	if [ "$code" -eq 0 ] && [ "$(count "$log" passed)" -eq 0 ]; then
		SOAK_ABSENT[$track]=1
		printf '%-14s no test is called %s\n' "$track" "$filter"
		return 0
	fi
	if [ "$code" -ne 0 ]; then
		result=failed
		SOAK_FAILED=$((SOAK_FAILED + 1))
		cp "$log" "$SOAK_STATE/failed-$track-$unit.log"
	fi
	what=$(covered "$log" | add_up | paste -sd ';')
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$SOAK_RUN" "$SOAK_COMMIT" "$track" "$unit" "$result" "$seconds" "$what" >>"$SOAK_STATE/units"
	printf '%-14s %-6s %s=%s %d s: %s\n' "$track" "$result" "$variable" "$part" "$seconds" "${what:-nothing counted}"
	if [ "$result" = failed ]; then soak_how_to_replay "$track" "$unit"; fi
}

# soak_how_to_replay TRACK UNIT: what the harness says, and the command for the whole unit.
soak_how_to_replay() {
	local program filter variable parts target='--lib' log=$SOAK_STATE/failed-$1-$2.log
	{ read -r program; read -r filter; read -r variable; read -r parts; } < <(soak_track "$1")
	if [ "$program" = 'it-*' ]; then target='--test it'; fi
	printf '  log:    %s\n' "$log"
	grep -aE 'replay|KEYFALL_[A-Z_]+=.* cargo test' "$log" 2>/dev/null | sort -u | head -n 5 | sed 's/^/  /' || true
	printf '  replay: %s=%s cargo test %s %s\n' "$variable" "$(soak_part "$parts" "$2")" "$target" "$filter"
}

# soak_covered RUN: what was covered by units that passed when they were run last, each counted as that run counted it; of one run, or with `` of
# all. Shares of a whole that has changed since are shares of something else.
soak_covered() {
	local line what number whole
	awk -F '\t' -v run="$1" '
		function whole(part) { return part ~ / of [0-9]+$/ ? substr(part, match(part, /[0-9]+$/)) : "" }
		function what(part) { sub(/ [0-9]+( of [0-9]+)?$/, "", part); return part }
		run == "" || $1 == run {
			unit = $3 "\t" $4
			delete last[unit]
			if ($5 != "ok") next
			last[unit] = $7
			n = split($7, parts, ";")
			for (i = 1; i <= n; i++) newest[what(parts[i])] = whole(parts[i])
		}
		END {
			for (unit in last) {
				n = split(last[unit], parts, ";")
				for (i = 1; i <= n; i++) if (parts[i] != "" && whole(parts[i]) == newest[what(parts[i])]) print parts[i]
			}
		}' \
		"$SOAK_STATE/units" | add_up | sort | while read -r line; do
		what=$line number=${line##* } whole=
		case $line in *' of '*)
			what=${line% of *} whole=${line##* of } number=${what##* }
			;;
		esac
		what=${what% *}
		whole=${whole:-${SOAK_WHOLE[$what]:-}}
		printf '  %s %s%s\n' "$what" "$number" "${whole:+ of $whole}"
	done | sed -E ':again; s/([0-9])([0-9]{3})\>/\1,\2/; t again'
}

# soak MINUTES: ends when no unit fits into the time that is left. Fails when a unit failed.
soak() {
	local until track
	declare -gA SOAK_SPENT=() SOAK_ABSENT=() SOAK_RAN=()
	SOAK_FAILED=0 SOAK_RUN=$(date -u +%Y-%m-%dT%H:%M:%SZ)
	SOAK_COMMIT=$(git -C "$ROOT" rev-parse --short HEAD 2>/dev/null || printf unknown)
	# shellcheck disable=SC2034 # tests/run reads it
	GROUP_LIMIT_SECONDS=${KEYFALL_TEST_LIMIT:-3600}
	mkdir -p "$SOAK_STATE"
	touch "$SOAK_STATE/units"
	SOAK_UNKNOWN=$(($1 * 60 < 240 ? $1 * 60 : 240))
	for track in "${SOAK_TRACKS[@]}"; do
		SOAK_SPENT[$track]=$(soak_spent "$track")
	done
	need_servers
	say "building the test programs at speed (ten minutes and more, where that was not done yet)"
	build --profile soak --lib --test it
	[ -n "$EXECUTABLES" ] || return 1
	exec 8>>"$SOAK_STATE/lock"
	flock -n 8 || fail "another soak writes to $SOAK_STATE; wait for it"
	# From here on: what has to be built first is not what was asked for.
	until=$((SECONDS + $1 * 60))
	while track=$(soak_choose $((until - SECONDS))) && [ -n "$track" ]; do
		soak_one "$track"
	done
	printf 'this run: %d units, %d failed\n' "$(grep -c "^$SOAK_RUN	" "$SOAK_STATE/units" || true)" "$SOAK_FAILED"
	soak_covered "$SOAK_RUN"
	printf 'all runs:\n'
	soak_covered ''
	if [ "$SOAK_FAILED" -gt 0 ]; then
		printf 'failed in this run:\n'
		awk -F '\t' -v run="$SOAK_RUN" '$1 == run && $5 == "failed" { print $3, $4 }' "$SOAK_STATE/units" | while read -r track unit; do
			printf '%s, unit %s\n' "$track" "$unit"
			soak_how_to_replay "$track" "$unit"
		done
		return 1
	fi
}
