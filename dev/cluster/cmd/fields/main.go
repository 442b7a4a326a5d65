// Command fields writes down what Kubernetes' own kinds are made of, as Go
// sees them: each field's name, type, when it is left out of JSON, its
// default, how lists and maps merge. `cargo xtask generate` keeps its output
// in crates/kinds.
//
//	fields table SWAGGER            the table
//	fields corpus SWAGGER COUNT     random objects, before and after the API server's decoding
//	fields normalize                objects on standard input, one a line, decoded and encoded again
//
// SWAGGER is api/openapi-spec/swagger.json of the module k8s.io/kubernetes:
// it says which kinds the API server serves, and under which names.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fields:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	switch {
	case len(args) == 2 && args[0] == "table":
		kinds, err := servedKinds(args[1])
		if err != nil {
			return err
		}
		return writeTable(out, kinds)
	case len(args) == 3 && args[0] == "corpus":
		kinds, err := servedKinds(args[1])
		if err != nil {
			return err
		}
		count, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return writeCorpus(out, kinds, count)
	case len(args) == 1 && args[0] == "normalize":
		return normalizeLines(out)
	}
	return fmt.Errorf("usage: fields table SWAGGER | corpus SWAGGER COUNT | normalize")
}

// A line of the corpus: what somebody sends, and what the API server makes of it.
type example struct {
	In    json.RawMessage `json:"in"`
	Out   json.RawMessage `json:"out,omitempty"`
	Error string          `json:"error,omitempty"`
}

// A time that defaults have put in: those of random objects are another.
func hasServerTime(decoded []byte) bool {
	for _, taint := range strings.Split(string(decoded), `"timeAdded":"`)[1:] {
		if !strings.HasPrefix(taint, givenTime) {
			return true
		}
	}
	return false
}

func writeCorpus(out *bufio.Writer, kinds []kind, count int) error {
	for _, kind := range kinds {
		random := randomOf(kind)
		for done, tries := 0, 0; done < count && tries < 50*count; tries++ {
			in, err := json.Marshal(randomObject(random, kind))
			if err != nil {
				return err
			}
			decoded, err := normalize(in)
			if err != nil || len(in) > 6000 || hasServerTime(decoded) {
				continue // another one: the examples show what is taken, and are the same each time
			}
			line, err := json.Marshal(example{In: in, Out: decoded})
			if err != nil {
				return err
			}
			out.Write(append(line, '\n'))
			done++
		}
	}
	return nil
}

func normalizeLines(out *bufio.Writer) error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 64<<20)
	for lines.Scan() {
		in := append([]byte(nil), lines.Bytes()...)
		answer := example{In: in}
		if decoded, err := normalize(in); err != nil {
			answer.Error = err.Error()
		} else {
			answer.Out = decoded
		}
		line, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
	}
	return lines.Err()
}
