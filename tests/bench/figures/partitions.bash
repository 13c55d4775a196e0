# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# partitions: what a second consumer adds. Both sides check the order of each of 96 keys in the handler, whose one UPDATE
# refuses an earlier message; a message out of order fails the figure.

figure partitions "messages applied by 2 consumers on 8 partitions, over 1 consumer on 1 queue"

partitions_of() {
    local fields
    fields=$(program partitions.log "$bin/bench_apply" --database obx_bench --keys 96 --ordered \
        --messages "$(size 50000 1000)" --queue "obx-bench-partitions-$1" "${@:2}") || return 1
    echo "${fields#rate }"
}

partitions_shared() {
    partitions_of many --partitions 8 --consumers 2
}

partitions_single() {
    partitions_of one
}

measure_partitions() {
    in_turns "$(size 3 1)" partitions_shared partitions_single || return 1
    result partitions ratio "at least 1.5" \
        "2 consumers on 8 partitions $(typical partitions_shared)/s over one on a queue $(typical partitions_single)/s" \
        $(ratios partitions_shared partitions_single)
}
