#!/usr/bin/env bash
# Six whole runs of the tests, whatever fails, to find tests that hang on the machine or its load:
# two in random order of files, two with a core kept busy, two with other vector instructions.
#
#   tests/six_runs.sh [LOGS]     logs in LOGS (test-logs); SEED=n for another order
set -uo pipefail
cd "$(dirname "$0")/.."

logs=${1:-test-logs}
seed=${SEED:-1}
mkdir -p "$logs"

# The files in an order that a seed decides, which git, find and the shell do not.
shuffled() {
    .venv/bin/python - "$1" <<'PY'
import random, sys
from pathlib import Path
files = sorted(map(str, Path("tests").rglob("test_*.py")))
random.Random(int(sys.argv[1])).shuffle(files)
print(*files)
PY
}

# one NAME [FILE...]: `make test`, of the files in that order if there are any.
one() {
    local name=$1 began=$SECONDS failed=0
    shift
    make test FILES="$*" >"$logs/$name.log" 2>&1 || failed=$?
    printf '%-10s exit %s, %5s s: %s\n' "$name" "$failed" "$((SECONDS - began))" \
        "$(grep -hE '^=* ?[0-9]+ (passed|failed).* in ' "$logs/$name.log" | tr -d '=' | paste -sd'|')"
    [ "$failed" = 0 ] || worst=1
}

worst=0
for i in 0 1; do
    echo "order$i: seed $((seed + i))"
    # shellcheck disable=SC2046
    one "order$i" $(shuffled $((seed + i)))
done
(while :; do :; done) &
busy=$!
trap 'kill "$busy" 2>/dev/null' EXIT
one busy0
one busy1
kill "$busy"
ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2 one avx2
ONEDNN_MAX_CPU_ISA=AVX512_CORE one avx512
exit $worst
