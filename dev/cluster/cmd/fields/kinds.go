package main

import (
	"bytes"
	stdencoding "encoding/json"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apiserver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	aggregator "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/controlplane"
)

// A kind that the API server serves.
type kind struct {
	gvk        schema.GroupVersionKind
	resource   string
	namespaced bool
	goType     reflect.Type
	scheme     *runtime.Scheme
}

var schemes = []*runtime.Scheme{legacyscheme.Scheme, aggregator.Scheme, apiextensions.Scheme}

func schemeOf(gvk schema.GroupVersionKind) *runtime.Scheme {
	for _, scheme := range schemes {
		if scheme.Recognizes(gvk) {
			return scheme
		}
	}
	return nil
}

// servedKinds finds the kinds that can be sent to an API server, in order.
func servedKinds(swagger string) ([]kind, error) {
	text, err := os.ReadFile(swagger)
	if err != nil {
		return nil, err
	}
	type operation struct {
		GVK struct{ Group, Version, Kind string } `json:"x-kubernetes-group-version-kind"`
	}
	var document struct {
		Paths map[string]map[string]stdencoding.RawMessage `json:"paths"`
	}
	if err := stdjson(text, &document); err != nil {
		return nil, err
	}
	found := map[schema.GroupVersionKind]kind{}
	for path, operations := range document.Paths {
		for _, method := range []string{"post", "put"} {
			raw, ok := operations[method]
			if !ok {
				continue
			}
			var operation operation
			if err := stdjson(raw, &operation); err != nil {
				return nil, err
			}
			gvk := schema.GroupVersionKind(operation.GVK)
			scheme := schemeOf(gvk)
			if gvk.Kind == "" || scheme == nil {
				continue
			}
			// Deepest first: /apis/apps/v1/namespaces/{namespace}/deployments/{name}/status
			before, rest, namespaced := strings.Cut(path, "/namespaces/{namespace}/")
			if !namespaced {
				rest = strings.Join(strings.Split(before, "/")[versionDepth(gvk):], "/")
			}
			resource, _, _ := strings.Cut(rest, "/{name}")
			if tail := strings.Split(rest, "/{name}/"); len(tail) == 2 {
				resource += "/" + tail[1]
			}
			known, seen := found[gvk]
			if seen && len(strings.Split(known.resource, "/")) <= len(strings.Split(resource, "/")) && known.resource <= resource {
				continue
			}
			if seen && strings.Contains(resource, "/") && !strings.Contains(known.resource, "/") {
				continue
			}
			object, err := scheme.New(gvk)
			if err != nil {
				return nil, err
			}
			goType := reflect.TypeOf(object).Elem()
			if _, ok := goType.FieldByName("ObjectMeta"); !ok {
				continue
			}
			found[gvk] = kind{gvk, resource, namespaced, goType, scheme}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("`%s` names no kind that is known here", swagger)
	}
	var kinds []kind
	for _, kind := range found {
		kinds = append(kinds, kind)
	}
	sort.Slice(kinds, func(i, j int) bool { return kinds[i].gvk.String() < kinds[j].gvk.String() })
	return kinds, nil
}

func versionDepth(gvk schema.GroupVersionKind) int {
	if gvk.Group == "" {
		return 3 // /api/v1/nodes
	}
	return 4 // /apis/apps/v1/deployments
}

// normalize does to an object what the API server does before admission: decodes it into its version with defaults,
// converts it to the version in memory, and encodes it as a webhook sees it.
func normalize(in []byte) ([]byte, error) {
	var meta metav1.TypeMeta
	if err := stdjson(in, &meta); err != nil {
		return nil, err
	}
	gvk := schema.FromAPIVersionAndKind(meta.APIVersion, meta.Kind)
	scheme := schemeOf(gvk)
	if scheme == nil {
		return nil, fmt.Errorf("no kind %s", gvk)
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Strict: true})
	codecs := serializer.NewCodecFactory(scheme)
	hub := schema.GroupVersion{Group: gvk.Group, Version: runtime.APIVersionInternal}
	object, _, err := codecs.DecoderToVersion(strict, hub).Decode(in, &gvk, nil)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := codecs.EncoderForVersion(strict, gvk.GroupVersion()).Encode(object, &out); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

func stdjson(text []byte, into any) error {
	return stdencoding.Unmarshal(text, into)
}
