// Command endpoint fetches a bundle with go-spiffe from an endpoint that proves
// itself by an SVID (profile `https_spiffe`), for the tests of crates/nullius.
//
// It reads one JSON object from its input, and writes one.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

type question struct {
	TrustDomain, URL, ID, Bundle string
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var asked question
	check(json.NewDecoder(os.Stdin).Decode(&asked))
	domain, err := spiffeid.TrustDomainFromString(asked.TrustDomain)
	check(err)
	id, err := spiffeid.FromString(asked.ID)
	check(err)
	known, err := spiffebundle.Read(domain, strings.NewReader(asked.Bundle))
	check(err)
	bundle, err := federation.FetchBundle(ctx, domain, asked.URL, federation.WithSPIFFEAuth(known, id))
	check(err)
	told := map[string]any{
		"anchors": len(bundle.X509Authorities()),
		"keys":    len(bundle.JWTAuthorities()),
	}
	check(json.NewEncoder(os.Stdout).Encode(told))
}
