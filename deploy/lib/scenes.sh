# shellcheck shell=bash
# The three scenes of deploy/quickstart. Each step says what it does, does it as a person would, and looks whether it held.
# Needs every other file here but packages.sh, postgres.sh and redis.sh.

IDENTITIES=4
SCHEDULED=(orders-api cache-worker)

scene_register() {
	local plan first
	scene 'Scene 1: a platform engineer registers machine identities'
	step 'The admin passwords go in by standard input; manifests only name them.'
	keyfall_as alice secret set orders-db-admin <"$KEYFALL_PG_ADMIN_PASSWORD_FILE" | quote
	keyfall_as alice secret set sessions-cache-admin <"$KEYFALL_REDIS_ADMIN_PASSWORD_FILE" | quote

	step 'alice$ keyfall plan -f examples'
	as alice plan -f "$DIR/examples" --reason 'onboard the order service' >"$DIR/plan.out" 2>&1 || {
		quote <"$DIR/plan.out"
		broken 'the examples can be planned'
	}
	quote <"$DIR/plan.out"
	first=$(plan_of <"$DIR/plan.out")

	step 'alice$ keyfall apply -f examples'
	as alice apply -f "$DIR/examples" --reason 'onboard the order service' >"$DIR/plan.out" 2>&1
	plan=$(plan_of <"$DIR/plan.out")
	grep -A1 '^Plan ' "$DIR/plan.out" | quote
	check 'What was looked at and what was applied are one plan to sign' test "$first" = "$plan"
	check 'Nothing exists downstream yet' no_role_like 'orders%'
	check 'alice cannot approve what she asked for' refuses_own_approval "$plan"

	step 'Two applications start; they log in every 50 ms with what they find in their file, and find none yet.'
	start_consumers

	step "bob\$ keyfall approve $plan   (signed with bob's own key)"
	as bob approve "$plan" --yes --reason 'agreed with the order team' >"$DIR/approved.out" 2>&1 || {
		quote <"$DIR/approved.out"
		broken 'bob can approve'
	}
	grep -E '^(Digest|opened| *pln_|.* is applied)' "$DIR/approved.out" | quote
	take_up billing-batch/db.env nightly-billing 60
	until_holds 60 'everything is provisioned' all_active
	held "$IDENTITIES identities are active, and Keyfall's two control identities: created, proven by a login at every vantage, delivered"
	check 'The files are there, and nobody else can read them' delivered_privately
	check "psql logs in with exactly what orders-api's file says" \
		logs_in_as orders_api_a orders_app "$DIR/apps/orders-api/pg_service.conf"
	quote <"$DIR/last.out"
	check 'Applying the same again changes nothing' applies_nothing
}

no_role_like() {
	local found
	found=$(psql_admin <<<"select rolname from pg_roles where rolname like '$1'")
	printf '%s\n' "$found"
	[ -z "$found" ]
}

is_absent() { ! ls -l "$1"; }

refuses_own_approval() {
	local answer
	if answer=$(as alice approve "$1" --yes 2>&1); then return 1; fi
	printf '%s\n' "$answer"
	[[ $answer == *'another person must approve'* ]]
}

all_active() { [ "$(as alice get identities --state active | tee /dev/fd/2 | grep -cw active)" -eq "$IDENTITIES" ]; }

delivered_privately() {
	local file
	for file in orders-api/pg_service.conf cache-worker/redis.env billing-batch/db.env legacy-report/pgpass; do
		stat -c '%A %s bytes %n' "$DIR/apps/$file"
		[ "$(stat -c %a "$DIR/apps/$file")" = 600 ] || return 1
	done
}

# logs_in_as ACCOUNT OWNER FILE
logs_in_as() {
	local answer
	answer=$(psql_with "$3" "$KEYFALL_PG_PRIMARY_PORT" "select session_user || ' acting as ' || current_user")
	printf '%s\n' "$answer"
	[ "$answer" = "$1 acting as $2" ]
}

applies_nothing() { as alice apply -f "$DIR/examples" 2>&1 | grep 'nothing to change'; }

# take_up FILE CONSUMER SECONDS: an application that starts now, reads its file once and tells which version it has.
take_up() {
	local file=$DIR/apps/$1 acknowledged
	acknowledged=${file%/*}/$2.version
	until_holds "$3" "the delivery of $1" delivered_anew "$file" "$acknowledged"
	pg_accepts "$file" "$KEYFALL_PG_PRIMARY_PORT" || broken "$2 logs in with what was delivered to it"
	value_of KEYFALL_VERSION "$file" >"$acknowledged.part"
	mv "$acknowledged.part" "$acknowledged"
}

delivered_anew() { [ -s "$1" ] && [ "$(value_of KEYFALL_VERSION "$1")" != "$(cat "$2" 2>/dev/null)" ]; }

scene_rotate() {
	scene 'Scene 2: credentials are rotated by schedule, one is taken away, one leaks'
	step 'The policy fast rotates orders-api and cache-worker every 20 s, by itself. Meanwhile:'
	decommission_one
	rotate_leaked
	step 'Waiting until the schedule has rotated both twice, and every old credential is proven dead.'
	until_holds 240 'two scheduled rotations of each' rotated_twice
	as alice runs --kind rotate --status completed | awk '/^run_/ { print $3, "rotated, begun", $(NF - 2), "proven", $(NF - 1), $1 }' | sort | quote
	local name
	for name in "${SCHEDULED[@]}"; do
		check "$name logged in $(attempts "$name" ok) times with $(versions_used "$name") credentials, and never failed" none_failed "$name"
	done
}

decommission_one() {
	local plan
	cp "$DIR/apps/legacy-report/pgpass" "$DIR/captured/legacy-report/last"
	check "legacy-report's password works at the primary" pg_accepts "$DIR/captured/legacy-report/last" "$KEYFALL_PG_PRIMARY_PORT"
	check '... and at the replica' pg_accepts "$DIR/captured/legacy-report/last" "$KEYFALL_PG_REPLICA_PORT"
	step 'alice$ keyfall decommission legacy-report'
	as alice decommission legacy-report --reason 'the old shop was switched off' >"$DIR/plan.out" 2>&1
	quote <"$DIR/plan.out"
	plan=$(plan_of <"$DIR/plan.out")
	carry_out "$plan" 'nobody reads this report' 'legacy-report is gone, and proven dead at both vantages'
	check 'Its tombstone stays' state_is legacy-report decommissioned
	check 'Its file is withdrawn' is_absent "$DIR/apps/legacy-report/pgpass"
	check 'PostgreSQL has no such account' no_role_like 'legacy%'
}

rotate_leaked() {
	local plan
	cp "$DIR/apps/billing-batch/db.env" "$DIR/captured/billing-batch/leaked"
	step "billing-batch's password was found in a public repository. It still works:"
	check 'the leaked password opens the database' pg_accepts "$DIR/captured/billing-batch/leaked" "$KEYFALL_PG_REPLICA_PORT"
	step 'alice$ keyfall rotate billing-batch --emergency'
	as alice rotate billing-batch --emergency --reason 'found in a public repository' >"$DIR/plan.out" 2>&1
	quote <"$DIR/plan.out"
	plan=$(plan_of <"$DIR/plan.out")
	carry_out "$plan" 'break the glass' 'the leaked password is proven dead at both vantages'
	take_up billing-batch/db.env nightly-billing 30
	held 'the nightly job logs in with the new one'
}

# carry_out PLAN REASON SENTENCE: bob signs it, and its runs end well.
carry_out() {
	[ -n "$1" ] || broken 'a plan was made'
	step "bob\$ keyfall approve $1 --wait"
	if ! signed "$1" "$2"; then
		tail -n 30 "$DIR/approved.out" "$DIR/run.out" | quote
		broken "$3"
	fi
	# The rounds of the proof, as they came: the old secret beside a live one and a random one, at each vantage.
	grep -E 'live control|closed:' "$DIR/run.out" | sed -E 's/^([0-9:]{8})[0-9.]* +(seen +prove_dead|closed) +/\1  /' | quote
	held "$3"
}

state_is() { as alice get identities --prefix "$1" | tee /dev/fd/2 | grep -qw "$2"; }

rotated_twice() {
	local name
	for name in "${SCHEDULED[@]}"; do
		[ "$(runs_of completed --identity "$name" --kind rotate)" -ge 2 ] || return 1
	done
}

scene_review() {
	scene 'Scene 3: a reviewer asks on Monday'
	step 'Somebody creates a login behind everybody'\''s back, by psql.'
	psql_admin <<<'create role shadow_admin login' >/dev/null
	step 'bob$ keyfall review'
	as bob -o json review >"$DIR/review.json"
	as bob review | grep -vE '^(findings|at):' | cut -c 1-140 | quote
	check 'Nothing is without an owner' has_none unowned
	check 'Nothing that was revoked is alive' has_none still_alive
	check 'Nothing is unprovable' has_none unprovable
	check 'Nobody is needed' has_none needs_operator
	check 'The login that nobody registered is named' grep -q '"shadow_admin"' "$DIR/review.json"
	check_dead
	take_evidence
	verify_offline
}

has_none() { grep -E "^  \"$1\": \[\]" "$DIR/review.json"; }

# check_dead: which of the captured credentials Keyfall calls dead, before it is stopped.
check_dead() {
	local name
	for name in "${SCHEDULED[@]}"; do
		states "$name" | awk '$2 == "dead" { print $1 }' >"$DIR/dead.$name"
		check "$(wc -l <"$DIR/dead.$name") old credentials of $name are called dead" test -s "$DIR/dead.$name"
	done
}

take_evidence() {
	local receipt
	step 'bob takes the evidence along: the log, and the receipt of the decommission.'
	as bob audit export "$DIR/auditor/log.ndjson" 2>&1 | quote
	receipt=$(as bob get receipts --identity legacy-report | awk '/^rcp_/ && /dead|completed|decommissioned/ { print $1; exit }')
	[ -n "$receipt" ] || receipt=$(as bob get receipts --identity legacy-report | awk '/^rcp_/ { print $1; exit }')
	[ -n "$receipt" ] || broken 'the decommission has a receipt'
	until_holds 20 'the place of the receipt in the log' \
		as bob get receipt "$receipt" --output-file "$DIR/auditor/legacy-report.receipt"
	cp "$DIR/keyfall/keyfall.pub" "$DIR/keyfall/people/bob.pub" "$DIR/auditor/"
}

# auditor ARGUMENT...: elsewhere, with four files, no server, no token and an empty environment.
auditor() { (cd "$DIR/auditor" && env -i "$KEYFALL" "$@" </dev/null); }

verify_offline() {
	step 'Keyfall is stopped. The applications go on, and an auditor looks at the files on a machine of her own.'
	AT_STOP=$(($(attempts orders-api ok) + $(attempts cache-worker ok)))
	stop_server_orderly
	check 'keyfall verify legacy-report.receipt' auditor verify legacy-report.receipt --key keyfall.pub --approver bob.pub
	cut -c 1-120 "$DIR/last.out" | quote
	check 'keyfall audit verify log.ndjson' auditor audit verify log.ndjson --key keyfall.pub
	quote <"$DIR/last.out"
	# One character of the base64 of what was signed.
	sed -E 's/("payload": *"[A-Za-z0-9+\/]{400})[A-Za-z0-9+\/]/\1#/; s/#/A/' "$DIR/auditor/legacy-report.receipt" >"$DIR/auditor/forged.receipt"
	if cmp -s "$DIR/auditor/legacy-report.receipt" "$DIR/auditor/forged.receipt"; then
		sed -i -E 's/("payload": *"[A-Za-z0-9+\/]{400})A/\1B/' "$DIR/auditor/forged.receipt"
	fi
	check 'A receipt with one changed character is refused' is_refused verify forged.receipt --key keyfall.pub
	quote <"$DIR/last.out"
	sed '5d' "$DIR/auditor/log.ndjson" >"$DIR/auditor/forged.ndjson"
	check 'A log with one record left out is refused' is_refused audit verify forged.ndjson --key keyfall.pub
	quote <"$DIR/last.out"
}

# is_refused ARGUMENT...: exit code 4 says "not proven"; an error of another kind would prove nothing.
is_refused() {
	local code=0
	auditor "$@" || code=$?
	[ "$code" -eq 4 ]
}

# scene_plain: everything again without believing a word of Keyfall's, which is not running.
scene_plain() {
	local name version tried=0
	scene 'By plain psql and redis-cli'
	while read -r version; do
		refused_twice "orders-api/$version" pg "$KEYFALL_PG_PRIMARY_PORT" "$KEYFALL_PG_REPLICA_PORT"
		tried=$((tried + 1))
	done <"$DIR/dead.orders-api"
	while read -r version; do
		refused_twice "cache-worker/$version" redis "$KEYFALL_REDIS_PORT" "$KEYFALL_REDIS2_PORT"
		tried=$((tried + 1))
	done <"$DIR/dead.cache-worker"
	refused_twice legacy-report/last pg "$KEYFALL_PG_PRIMARY_PORT" "$KEYFALL_PG_REPLICA_PORT"
	refused_twice billing-batch/leaked pg "$KEYFALL_PG_PRIMARY_PORT" "$KEYFALL_PG_REPLICA_PORT"
	# shellcheck disable=SC2034 # read in quickstart
	OLD_TRIED=$((tried + 2))
	for name in orders-api/pg_service.conf billing-batch/db.env; do
		check "what $name says now is accepted by the primary" pg_accepts "$DIR/apps/$name" "$KEYFALL_PG_PRIMARY_PORT"
		check '... and by the replica' pg_accepts "$DIR/apps/$name" "$KEYFALL_PG_REPLICA_PORT"
	done
	check 'what cache-worker/redis.env says now is accepted by node 1' redis_accepts "$DIR/apps/cache-worker/redis.env" "$KEYFALL_REDIS_PORT"
	check '... and by node 2' redis_accepts "$DIR/apps/cache-worker/redis.env" "$KEYFALL_REDIS2_PORT"
	for name in "${SCHEDULED[@]}"; do check "$name never failed to log in, also not while Keyfall was stopped" none_failed "$name"; done
	check 'The applications went on without Keyfall' test "$(($(attempts orders-api ok) + $(attempts cache-worker ok)))" -gt "$AT_STOP"
}

# refused_twice CAPTURED KIND PORT PORT
refused_twice() {
	local file=$DIR/captured/$1 port
	[ -s "$file" ] || broken "$1 was captured"
	for port in "$3" "$4"; do check "old $1 is refused on port $port" "$2_refuses" "$file" "$port"; done
}
