// Command workload is a workload written with go-spiffe, for the tests of
// crates/workload: it takes what the Workload API gives it, verifies and uses it,
// and says so, a line of JSON for each step.
//
// Its arguments are the endpoint, an audience, and what to do: `once` ends
// after everything was used, `watch` says each X.509 context until its input ends.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func say(step string, value map[string]any) {
	value["step"] = step
	line, err := json.Marshal(value)
	check(err)
	fmt.Println(string(line))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	endpoint, audience, mode := os.Args[1], os.Args[2], os.Args[3]
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(endpoint))
	check(err)
	defer client.Close()
	if mode == "watch" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
		_ = client.WatchX509Context(ctx, watcher{})
		return
	}
	once(ctx, client, endpoint, audience)
}

func once(ctx context.Context, client *workloadapi.Client, endpoint, audience string) {
	x509, err := client.FetchX509Context(ctx)
	check(err)
	svid := x509.DefaultSVID()
	say("x509", describe(x509))
	_, _, err = x509svid.Verify(svid.Certificates, x509.Bundles)
	check(err)
	bundles, err := client.FetchX509Bundles(ctx)
	check(err)
	say("bundles", map[string]any{"count": bundles.Len()})

	token, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	check(err)
	keys, err := client.FetchJWTBundles(ctx)
	check(err)
	_, err = jwtsvid.ParseAndValidate(token.Marshal(), jwtSource{keys}, []string{audience})
	check(err)
	valid, err := client.ValidateJWTSVID(ctx, token.Marshal(), audience)
	check(err)
	_, wrong := client.ValidateJWTSVID(ctx, token.Marshal(), audience+"-not")
	say("jwt", map[string]any{
		"id": token.ID.String(), "validated": valid.ID.String(), "audience": token.Audience,
		"otherAudience": fmt.Sprint(wrong),
	})

	// Both ends of a connection by what the socket gave.
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(endpoint)))
	check(err)
	defer source.Close()
	accept := tlsconfig.AuthorizeID(svid.ID)
	server, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.MTLSServerConfig(source, source, accept))
	check(err)
	go func() {
		for {
			connection, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(connection, connection)
				_ = connection.Close()
			}()
		}
	}()
	echoed, err := echo(server.Addr(), tlsconfig.MTLSClientConfig(source, source, accept))
	check(err)
	stranger := spiffeid.RequireFromPath(svid.ID.TrustDomain(), "/somebody/else")
	_, refused := echo(server.Addr(), tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(stranger)))
	say("mtls", map[string]any{"echoed": echoed, "stranger": fmt.Sprint(refused)})
}

func echo(address net.Addr, config *tls.Config) (string, error) {
	connection, err := tls.Dial("tcp", address.String(), config)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if _, err = connection.Write([]byte("hello")); err != nil {
		return "", err
	}
	if err = connection.CloseWrite(); err != nil {
		return "", err
	}
	text, err := io.ReadAll(connection)
	return string(text), err
}

func describe(x509 *workloadapi.X509Context) map[string]any {
	ids, hints := []string{}, []string{}
	for _, svid := range x509.SVIDs {
		ids = append(ids, svid.ID.String())
		hints = append(hints, svid.Hint)
	}
	serial := x509.DefaultSVID().Certificates[0].SerialNumber.String()
	return map[string]any{"ids": ids, "hints": hints, "serial": serial, "bundles": x509.Bundles.Len()}
}

type jwtSource struct{ set *jwtbundle.Set }

func (source jwtSource) GetJWTBundleForTrustDomain(domain spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
	return source.set.GetJWTBundleForTrustDomain(domain)
}

type watcher struct{}

func (watcher) OnX509ContextUpdate(x509 *workloadapi.X509Context) {
	say("x509", describe(x509))
}

func (watcher) OnX509ContextWatchError(err error) {
	say("error", map[string]any{"why": err.Error()})
}
