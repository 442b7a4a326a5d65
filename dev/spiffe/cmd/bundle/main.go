// Command bundle verifies workloads from afar, for the tests of crates/hub: it
// fetches the bundle of a trust domain with go-spiffe (profile `https_web`) and
// the keys of its tokens with go-oidc, and says whom an SVID of each kind proves.
//
// It reads one JSON object from its input, and writes one.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

type question struct {
	TrustDomain, Bundle, Issuer, Roots, Token, Audience, Chain string
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
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(asked.Roots)) {
		check(errors.New("no roots"))
	}
	told := map[string]any{}
	bySpiffe(ctx, asked, roots, told)
	byOpenID(ctx, asked, roots, told)
	check(json.NewEncoder(os.Stdout).Encode(told))
}

func bySpiffe(ctx context.Context, asked question, roots *x509.CertPool, told map[string]any) {
	domain := spiffeid.RequireTrustDomainFromString(asked.TrustDomain)
	web := federation.WithWebPKIRoots(roots)
	bundle, err := federation.FetchBundle(ctx, domain, asked.Bundle, web)
	check(err)
	told["anchors"], told["keys"] = len(bundle.X509Authorities()), len(bundle.JWTAuthorities())
	told["sequence"], _ = bundle.SequenceNumber()
	hint, _ := bundle.RefreshHint()
	told["refreshHint"] = hint.Seconds()
	id, _, err := x509svid.ParseAndVerify(der(asked.Chain), bundle)
	check(err)
	told["x509"] = id.String()
	token, err := jwtsvid.ParseAndValidate(asked.Token, bundle, []string{asked.Audience})
	check(err)
	told["jwt"] = token.ID.String()
	other := strings.Replace(asked.Bundle, asked.TrustDomain, "other.example", 1)
	_, err = federation.FetchBundle(ctx, domain, other, web)
	told["otherDomain"] = fmt.Sprint(err)
}

// der has the certificates of a PEM text as TLS would send them.
func der(text string) [][]byte {
	all := [][]byte{}
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		all = append(all, block.Bytes)
	}
	return all
}

func byOpenID(ctx context.Context, asked question, roots *x509.CertPool, told map[string]any) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	ctx = oidc.ClientContext(ctx, &http.Client{Transport: transport})
	// It refuses an issuer that calls itself something else than its URL.
	provider, err := oidc.NewProvider(ctx, asked.Issuer)
	check(err)
	verify := func(audience string) (*oidc.IDToken, error) {
		return provider.VerifierContext(ctx, &oidc.Config{ClientID: audience}).Verify(ctx, asked.Token)
	}
	token, err := verify(asked.Audience)
	check(err)
	told["openid"] = token.Subject
	_, err = verify("another")
	told["otherAudience"] = fmt.Sprint(err)
}
