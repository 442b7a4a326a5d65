// Command celanswers says what cel-go in the API server's own environment
// makes of expressions, for the tests of crates/cel to compare with.
//
// Its argument is JSON with the variables, all of type dyn. Each line on
// standard input is {"env": "1.36", "expr": "…"} and is answered with one line
// of JSON, in the same order: `refused` with why it does not compile, or its
// type, what it costs, its estimate, and its value or error.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
	_ "time/tzdata"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"golang.org/x/sys/unix"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"
)

// Beyond this an evaluation says that it was ended, and the test says so.
const patience = 5 * time.Second

// What would take more memory ends the peer, not the machine that tests.
const memory = 3 << 30

type question struct {
	Env  string `json:"env"`
	Expr string `json:"expr"`
}

type answer struct {
	Refused string `json:"refused,omitempty"`
	Type    string `json:"type,omitempty"`
	Value   any    `json:"value,omitempty"`
	Error   string `json:"error,omitempty"`
	Cost    uint64 `json:"cost"`
	Min     uint64 `json:"min"`
	Max     uint64 `json:"max"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "celanswers:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: celanswers VARIABLES")
	}
	limit := unix.Rlimit{Cur: memory, Max: memory}
	if err := unix.Setrlimit(unix.RLIMIT_AS, &limit); err != nil {
		return err
	}
	variables := map[string]any{}
	if err := utiljson.Unmarshal([]byte(os.Args[1]), &variables); err != nil {
		return err
	}
	environments := map[string]*cel.Env{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	// Questions are answered at the same time and told in their order.
	waiting := make(chan chan answer, 2*runtime.GOMAXPROCS(0))
	failed := make(chan error, 1)
	go func() {
		defer close(waiting)
		for lines.Scan() {
			var asked question
			if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
				failed <- err
				return
			}
			env, known := environments[asked.Env]
			if !known {
				var err error
				if env, err = environmentOf(asked.Env, variables); err != nil {
					failed <- err
					return
				}
				environments[asked.Env] = env
			}
			told := make(chan answer, 1)
			waiting <- told
			go func() { told <- ask(env, asked.Expr, variables) }()
		}
		failed <- lines.Err()
	}()
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for told := range waiting {
		if err := encoder.Encode(<-told); err != nil {
			return err
		}
		if len(waiting) == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return <-failed
}

// environmentOf is what the admission plugins of a version compile new
// expressions against.
func environmentOf(name string, variables map[string]any) (*cel.Env, error) {
	compatible, err := version.ParseMajorMinor(name)
	if err != nil {
		return nil, err
	}
	options := []cel.EnvOption{
		common.ResolverEnvOption(&mutation.DynamicTypeResolver{}),
		library.JSONPatch(),
	}
	for variable := range variables {
		options = append(options, cel.Variable(variable, cel.DynType))
	}
	set, err := environment.MustBaseEnvSet(compatible).Extend(
		environment.VersionedOptions{
			IntroducedVersion: version.MajorMinor(1, 0),
			EnvOptions:        options,
		},
		environment.StrictCostOpt,
	)
	if err != nil {
		return nil, err
	}
	return set.Env(environment.NewExpressions)
}

func ask(env *cel.Env, source string, variables map[string]any) (told answer) {
	defer func() {
		// The API server's own handler would end such a request too.
		if cause := recover(); cause != nil {
			told.Error = fmt.Sprint("panic: ", cause)
		}
	}()
	ast, issues := env.Compile(source)
	if issues.Err() != nil {
		told.Refused = issues.Err().Error()
		return told
	}
	told.Type = ast.OutputType().String()
	estimate, err := env.EstimateCost(ast, &library.CostEstimator{}, checker.PresenceTestHasCost(false))
	if err != nil {
		told.Refused = err.Error()
		return told
	}
	told.Min, told.Max = estimate.Min, estimate.Max
	program, err := env.Program(ast,
		cel.InterruptCheckFrequency(celconfig.CheckFrequency),
		cel.CostLimit(celconfig.PerCallLimit),
	)
	if err != nil {
		told.Refused = err.Error()
		return told
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	value, details, err := program.ContextEval(ctx, variables)
	if details != nil && details.ActualCost() != nil {
		told.Cost = *details.ActualCost()
	}
	if err != nil {
		told.Error = err.Error()
		return told
	}
	told.Value = tagged(value)
	return told
}

// tagged is the form in which `nullius cel eval -o json` tells values.
func tagged(value ref.Val) any {
	switch value := value.(type) {
	case types.Null:
		return map[string]any{"t": "null"}
	case types.Bool:
		return map[string]any{"t": "bool", "v": bool(value)}
	case types.Int:
		return map[string]any{"t": "int", "v": strconv.FormatInt(int64(value), 10)}
	case types.Uint:
		return map[string]any{"t": "uint", "v": strconv.FormatUint(uint64(value), 10)}
	case types.Double:
		return map[string]any{"t": "double", "v": strconv.FormatFloat(float64(value), 'g', -1, 64)}
	case types.String:
		return map[string]any{"t": "string", "v": string(value)}
	case types.Bytes:
		octets := make([]int, len(value))
		for at, octet := range value {
			octets[at] = int(octet)
		}
		return map[string]any{"t": "bytes", "v": octets}
	case types.Duration:
		nanoseconds := value.Nanoseconds()
		return map[string]any{"t": "duration", "s": nanoseconds / 1e9, "n": nanoseconds % 1e9}
	case types.Timestamp:
		return map[string]any{"t": "timestamp", "s": value.Unix(), "n": value.Nanosecond()}
	case *types.Optional:
		if value.HasValue() {
			return map[string]any{"t": "optional", "v": tagged(value.GetValue())}
		}
		return map[string]any{"t": "optional"}
	case *types.Type:
		return map[string]any{"t": "type", "v": value.TypeName()}
	case traits.Mapper:
		pairs := [][2]any{}
		for it := value.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			pairs = append(pairs, [2]any{tagged(key), tagged(value.Get(key))})
		}
		return map[string]any{"t": "map", "v": pairs}
	case traits.Lister:
		items := []any{}
		for it := value.Iterator(); it.HasNext() == types.True; {
			items = append(items, tagged(it.Next()))
		}
		return map[string]any{"t": "list", "v": items}
	}
	return map[string]any{"t": value.Type().TypeName()}
}
