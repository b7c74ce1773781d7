#!/usr/bin/env bash
# Trains nano on every card at hand within so many seconds, and leaves weights to carry away after every stage.
#
#   deploy/two_cards.sh DATA OUT SECONDS [START]
#
# Four processes a card: text; see and index; ask; and the head's stages. Each compiles while the one before it trains
# (`--after`), so that no card waits for a compiler. Shares of the time stand below; docs/training.md says what they rest
# on. `CARDS=1 EXTRA="--smoke --device cpu"` rehearses it without a card. OUT/weights-STAGE holds the model after each stage in eight bits, in shards under 16 MiB.
set -euo pipefail
data=$1 out=$2 seconds=$3 start=${4:-}
cards=${CARDS:-$(nvidia-smi --list-gpus | wc -l)}
python=${PYTHON:-python3}
run=$out/run
mkdir -p "$out"

# Minutes of each stage, of what is left when the first step has been compiled (about 100 s).
minutes() { awk -v left="$((seconds - 130))" -v share="$1" 'BEGIN { printf "%.2f", left * share / 60 }'; }

begin() { # NAME PORT ARGUMENTS...: the same line on every card
    local name=$1 port=$2
    shift 2
    for ((rank = 0; rank < cards; rank++)); do
        WORLD_SIZE=$cards RANK=$rank LOCAL_RANK=$rank MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
            "$python" -m dsv4 train nano --data "$data" --out "$run" --seed 0 "$@" ${EXTRA:-} \
            >"$out/$name.$rank.log" 2>&1 &
    done
}

begin text 29501 --stages text --minutes "$(minutes "${TEXT:-0.3}")" ${start:+--start "$start"}
begin see 29502 --stages see,index --after text --minutes "$(minutes "${SEE:-0.3}")" ${start:+--start "$start"}
begin ask 29503 --stages ask --after index --minutes "$(minutes "${ASK:-0.1}")" ${start:+--start "$start"}
begin head 29504 --stages paint,film --after ask --minutes "$(minutes "${HEAD:-0.15}")" ${start:+--start "$start"}

finished() { "$python" - "$run/run.json" <<'READ'
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
print(" ".join(json.loads(path.read_text()).get("finished", [])) if path.is_file() else "")
READ
}

carried="" deadline=$((SECONDS + seconds))
while ((SECONDS < deadline)) && [ -n "$(jobs -rp)" ]; do
    sleep 2
    now=$(finished)
    if [ -n "$now" ] && [ "$now" != "$carried" ]; then
        carried=$now
        "$python" -m dsv4 export --run "$run" --data "$data" --policy eight --out "$out/weights-${now##* }" || true
    fi
done
kill $(jobs -rp) 2>/dev/null || true
wait || true
echo "finished: $(finished)"
