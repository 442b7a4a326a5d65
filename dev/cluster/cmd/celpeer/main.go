// Command celpeer evaluates expressions with cel-go in the API server's own
// environment, for `cargo xtask bench cel` to stand beside.
//
// Its argument is a file with an object and expressions by name. Each line
// on standard input, `evaluate NAME MILLISECONDS` or `compile NAME
// MILLISECONDS`, is answered with one line of JSON.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

type answer struct {
	Nanoseconds float64 `json:"nanoseconds"`
	Cost        uint64  `json:"cost"`
	Value       any     `json:"value"`
	Peer        string  `json:"peer"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "celpeer:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: celpeer FILE")
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	var cases struct {
		Object      map[string]any    `json:"object"`
		Expressions map[string]string `json:"expressions"`
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		return err
	}
	// As the admission plugin makes it: the object is of any type, cost is counted strictly.
	set, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(
		environment.VersionedOptions{
			IntroducedVersion: version.MajorMinor(1, 0),
			EnvOptions:        []cel.EnvOption{cel.Variable("object", cel.DynType)},
		},
		environment.StrictCostOpt,
	)
	if err != nil {
		return err
	}
	env, err := set.Env(environment.StoredExpressions)
	if err != nil {
		return err
	}
	input := map[string]any{"object": cases.Object}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var what, name string
		var milliseconds int
		if _, err := fmt.Sscan(lines.Text(), &what, &name, &milliseconds); err != nil {
			return fmt.Errorf("`%s`: %w", lines.Text(), err)
		}
		source, ok := cases.Expressions[name]
		if !ok {
			return fmt.Errorf("no expression `%s`", name)
		}
		program, err := compile(env, source)
		if err != nil {
			return err
		}
		value, details, err := program.ContextEval(context.Background(), input)
		if err != nil {
			return err
		}
		cost := details.ActualCost()
		if cost == nil {
			return fmt.Errorf("cost is not counted")
		}
		work := func() error {
			_, _, err := program.ContextEval(context.Background(), input)
			return err
		}
		if what == "compile" {
			work = func() error { _, err := compile(env, source); return err }
		}
		nanoseconds, err := measure(time.Duration(milliseconds)*time.Millisecond, work)
		if err != nil {
			return err
		}
		line, err := json.Marshal(answer{nanoseconds, *cost, value.Value(), "cel-go " + peerVersion()})
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return lines.Err()
}

func compile(env *cel.Env, source string) (cel.Program, error) {
	ast, issues := env.Compile(source)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	return env.Program(ast, cel.InterruptCheckFrequency(celconfig.CheckFrequency))
}

// measure does the work for a while and says how much processor time it
// took once, that of the garbage collector in it.
func measure(limit time.Duration, work func() error) (float64, error) {
	rounds := 0
	start, used := time.Now(), processorTime()
	for time.Since(start) < limit {
		for range 20 {
			if err := work(); err != nil {
				return 0, err
			}
		}
		rounds += 20
	}
	return float64(processorTime()-used) / float64(rounds), nil
}

func processorTime() int64 {
	var used unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used); err != nil {
		panic(err)
	}
	return used.Nano()
}

func peerVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, module := range info.Deps {
		if strings.HasSuffix(module.Path, "google/cel-go") {
			return module.Version
		}
	}
	return ""
}
