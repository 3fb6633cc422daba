#!/usr/bin/env bash
# The rules of CONTRIBUTING.md that a formatter does not know.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=0

refuse() { # refuse RULE PATTERN PATH... : fails when the pattern is found
    local rule=$1 pattern=$2 found
    shift 2
    if found=$(grep -rnE --include='*.swift' "$pattern" "$@"); then
        printf '%s\n%s\n\n' "$rule" "$found" >&2
        failed=1
    fi
}

core=Sources/MemoryCore
refuse 'Traps on data from outside:' '\btry!|\bfatalError\(' Sources
refuse 'An empty catch:' 'catch *\{ *\}' Sources
refuse 'The library prints:' '(^|[^a-zA-Z_.])print\(' $core
refuse 'Unstructured tasks (Memory.startBackground and the hedge of a recall hold the two there are):' '\bTask *\{|Task\.detached' \
    $(find Sources -name '*.swift' ! -path "$core/Memory.swift" ! -path "$core/Memory+Recall.swift")
refuse 'The compiler proof of Sendable is switched off:' '@unchecked Sendable|nonisolated\(unsafe\)' Sources
for module in CPostgres:Postgres CHiredis:Valkey CCurl:Curl CStemmer:Retrieval; do
    refuse "${module%%:*} outside ${module##*:}:" "import ${module%%:*}" \
        $(find Sources -name '*.swift' ! -path "$core/${module##*:}/*")
done
refuse 'Time and chance beside Surroundings:' 'Timestamp\.now|ContinuousClock\.now|Task\.sleep|\.random\(in: \.min' \
    "$core"/Memory*.swift "$core"/{Cache,Outbox,SQL}
refuse 'Tests that wait instead of knowing:' 'usleep\(|\bsleep\([0-9]|\.disabled\(\)' Tests
refuse 'Tests that hold a thread of the cooperative pool (Tests/Support/Blocking.swift):' \
    'readDataToEndOfFile|^ *[A-Za-z]+\.waitUntilExit' $(find Tests -name '*.swift' ! -name Blocking.swift)

# Every test that the reliability page names is there: `Suite.test`, `.test` of the suite before, `rows.name`, `file.py`.
page=docs/reliability.md
unknown() { echo "$page names what is not there: $1" >&2; failed=1; }
suite='' files=''
while read -r name; do
    case $name in
        rows.*) grep -rqE --include='*.py' "^def ${name#rows.}\(" Tests/Chaos/rows || unknown "$name" ;;
        *.py) [ -n "$(find Tests -name "$name")" ] || unknown "$name" ;;
        *)
            [ -n "${name%%.*}" ] && suite=${name%%.*} && files=$(grep -rlE --include='*.swift' "(struct|extension) $suite\b" Tests
                find Tests -name "$suite.swift")
            # shellcheck disable=SC2086
            { [ -n "$files" ] && { [ "${name#*.}" = "$name" ] || grep -qE "func ${name#*.}\(" $files; }; } || unknown "$suite.${name#*.}"
            ;;
    esac
done < <(sed '/<!-- chaos -->/,/<!-- end -->/d' $page | grep -oE '`[^` ]+`' | tr -d '`' |
    grep -E '^([A-Z][A-Za-z]*Tests(\.[a-zA-Z]+)?|\.[a-zA-Z]+|rows\.[a-z_]+|[a-z_]+\.py)$')

for previous in migrations/*.sql; do
    case $(basename "$previous") in
        [0-9][0-9][0-9]_*.sql) ;;
        *) echo "Not NNN_name.sql: $previous" >&2; failed=1 ;;
    esac
done
[ $failed = 0 ] && echo "House rules hold."
exit $failed
