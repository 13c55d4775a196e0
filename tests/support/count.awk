# Counts test cases from the output of "ctest -V": cmocka's cases one by one, any other program as one.
#
# Every line of a program starts with its CTest number ("12: "), so programs that run at the same time
# do not mix. A case that was begun and not ended, or announced and never begun, has failed: its program
# died. So has a program that failed without any failed case to show for it.
# Prints one line a program that failed, with its cases, and last "total PASSED FAILED SKIPPED".

function close_case(id) {
    if (current[id] != "") {
        failed[id]++
        names[id] = names[id] " " current[id]
        current[id] = ""
    }
}

function case_ends(id, verdict) {
    if (current[id] == "")
        return
    if (verdict == "OK")
        passed[id]++
    else if (verdict == "SKIPPED")
        skipped[id]++
    else {
        close_case(id)
        return
    }
    current[id] = ""
}

match($0, /^[0-9]+: /) {
    id = substr($0, 1, RLENGTH - 2) + 0
    if (match($0, /\[==========\] .*[Rr]unning [0-9]+ test\(s\)/)) {
        text = substr($0, RSTART, RLENGTH)
        sub(/.*unning /, "", text)
        planned[id] += text + 0
        is_cmocka[id] = 1
    } else if (match($0, /\[ RUN      \] /)) {
        close_case(id)
        current[id] = substr($0, RSTART + RLENGTH)
    } else if ($0 ~ /\[       OK \]/)
        case_ends(id, "OK")
    else if ($0 ~ /\[  SKIPPED \]/)
        case_ends(id, "SKIPPED")
    else if ($0 ~ /\[  FAILED  \]/)
        case_ends(id, "FAILED")
    next
}

# " 3/12 Test #7: name ............   Passed    0.05 sec"
match($0, /^ *[0-9]+\/[0-9]+ Test +#[0-9]+: /) {
    text = substr($0, 1, RLENGTH)
    sub(/.*#/, "", text)
    id = text + 0
    rest = substr($0, RLENGTH + 1)
    split(rest, word, " ")
    program[id] = word[1]
    verdict[id] = (rest ~ / Passed +[0-9.]+ sec/) ? "passed" : "failed"
    if (verdict[id] == "failed") {
        sub(/^[^ ]+ \.*/, "", rest)
        reason[id] = rest
    }
}

END {
    for (id in program) {
        close_case(id)
        lost = planned[id] - passed[id] - failed[id] - skipped[id]
        if (lost > 0) {
            failed[id] += lost
            names[id] = names[id] " (" lost " never run)"
        }
        if (verdict[id] == "failed" && !failed[id])
            failed[id] = 1
        if (verdict[id] == "passed" && !is_cmocka[id])
            passed[id] = 1
        if (failed[id])
            printf "failed: %s:%s %s\n", program[id], names[id], reason[id]
        all_passed += passed[id]
        all_failed += failed[id]
        all_skipped += skipped[id]
    }
    printf "total %d %d %d\n", all_passed, all_failed, all_skipped
}
