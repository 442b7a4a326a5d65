#!/usr/bin/env bash
# What the GitHub action and the GitLab component run. Everything comes from the environment (PROGRAM, INPUT_…); where there
# can be several values, one a line, or a JSON array of texts with INPUT_FORM=json. Nothing of it is ever read as shell.
#
# Writes reports (INPUT_SARIF, INPUT_JUNIT, INPUT_CODE_QUALITY), the findings to standard output, and on GitHub the summary and
# the outputs. On GitHub it always ends well and says in `exit-code` how the scan ended; elsewhere it ends as the scan did, but for
# findings with INPUT_FAIL=false.
set -uo pipefail

shown=$(mktemp)
told=$(mktemp)
resume() { :; }
trap 'rm -f "$shown" "$told"; resume' EXIT
if [ -n "${GITHUB_OUTPUT:-}" ]; then
  # What is printed shows text of the files, in which GitHub would look for commands; and it reads both streams.
  token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  if [ "${#token}" -ne 32 ]; then
    echo 'no random bytes can be read' >&2
    exit 1
  fi
  exec 2>&1
  echo "::stop-commands::$token"
  resume() { printf '\n::%s::\n' "$token"; }
fi

values() { # NAME VALUES: several values as an array
  local -n into=$1
  local value rest=$2 between=
  local string='^([^"]*)"(([^"\]|\\.)*)"'
  into=()
  if [ "${INPUT_FORM:-lines}" != json ]; then
    while IFS= read -r value; do
      if [ -n "$value" ]; then into+=("$value"); fi
    done <<< "$rest"
    return
  fi
  while [[ $rest =~ $string ]]; do
    between+=${BASH_REMATCH[1]}
    value=${BASH_REMATCH[2]}
    rest=${rest:${#BASH_REMATCH[0]}}
    # Escapes of JSON are those of printf, but for this one.
    value=${value//\\\"/\"}
    printf -v value %b "$value"
    if [ -n "$value" ]; then into+=("$value"); fi
  done
  if [[ $between$rest == *[^][,\ ]* ]]; then
    echo "\`$2\` is no list of texts" >&2
    exit 64
  fi
}
flags=()
add() { # FLAG VALUES: the flag before each of several values
  local all value
  values all "$2"
  for value in "${all[@]}"; do flags+=("$1=$value"); done
}
one() { # FLAG VALUE: the flag before a value
  if [ -n "$2" ]; then flags+=("$1=$2"); fi
}

one --builtin "${INPUT_BUILTIN:-}"
one --pod-security "${INPUT_POD_SECURITY:-}"
one --waivers "${INPUT_WAIVERS:-}"
add --policies "${INPUT_POLICIES:-}"
add --state "${INPUT_STATE:-}"
add --exclude "${INPUT_EXCLUDE:-}"
values paths "${INPUT_PATHS:-.}"
values tests "${INPUT_TESTS:-}"

worst=0
note() { # an exit code: findings count more than what could not be read, a wrong command line more than both
  case $1 in
    0) ;;
    2) if [ "$worst" -ne 64 ]; then worst=2; fi ;;
    64) worst=64 ;;
    *) if [ "$worst" -eq 0 ]; then worst=1; fi ;;
  esac
}
report() { # FORM FILE: the same scan as a file
  if [ -n "$2" ]; then
    NO_COLOR=1 "$PROGRAM" scan -o "$1" "${flags[@]}" -- "${paths[@]}" > "$2" 2> /dev/null
  fi
}

NO_COLOR=1 "$PROGRAM" scan "${flags[@]}" -- "${paths[@]}" > "$shown" 2> "$told"
note $?
cat "$shown" "$told"
report sarif "${INPUT_SARIF:-}"
report junit "${INPUT_JUNIT:-}"
report codequality "${INPUT_CODE_QUALITY:-}"
objects=$(NO_COLOR=1 "$PROGRAM" scan -o name "${flags[@]}" -- "${paths[@]}" 2> /dev/null | wc -l)
objects=$((objects))

difference=
if [ -n "${INPUT_BASE:-}" ]; then
  difference=$(NO_COLOR=1 "$PROGRAM" diff -o markdown "${flags[@]}" -- "$INPUT_BASE" "${paths[0]}")
  note $?
  printf '%s\n' "$difference"
fi
if [ "${#tests[@]}" -gt 0 ]; then
  NO_COLOR=1 "$PROGRAM" test -- "${tests[@]}"
  note $?
  if [ -n "${INPUT_TEST_JUNIT:-}" ]; then
    NO_COLOR=1 "$PROGRAM" test -o junit -- "${tests[@]}" > "$INPUT_TEST_JUNIT" 2> /dev/null
  fi
fi

if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
  {
    if [ -n "$difference" ]; then printf '%s\n\n' "$difference"; fi
    echo '### Nullius scan'
    # Indented, so that no line of it is markup.
    echo
    { tail -n 1 "$told"; echo; head -c 500000 "$shown"; } | sed 's/^/    /'
  } >> "$GITHUB_STEP_SUMMARY"
fi
if [ -n "${GITHUB_OUTPUT:-}" ]; then
  # A name that spans lines cannot make an output of its own.
  sarif=${INPUT_SARIF:-}
  {
    echo "objects=$objects"
    echo "exit-code=$worst"
    echo "sarif=${sarif//[$'\n\r']/}"
  } >> "$GITHUB_OUTPUT"
  exit 0
fi
if [ "${INPUT_FAIL:-true}" = false ] && [ "$worst" -eq 2 ]; then
  exit 0
fi
exit "$worst"
