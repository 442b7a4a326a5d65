package main

import (
	"encoding/base64"
	"hash/fnv"
	"math/rand"
	"reflect"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var (
	quantityType    = reflect.TypeOf(resource.Quantity{})
	timeType        = reflect.TypeOf(metav1.Time{})
	microTimeType   = reflect.TypeOf(metav1.MicroTime{})
	durationType    = reflect.TypeOf(metav1.Duration{})
	intOrStringType = reflect.TypeOf(intstr.IntOrString{})
	rawType         = reflect.TypeOf(runtime.RawExtension{})
	fieldsType      = reflect.TypeOf(metav1.FieldsV1{})
	typeMetaType    = reflect.TypeOf(metav1.TypeMeta{})

	schemaType          = reflect.TypeOf(apiextensionsv1.JSONSchemaProps{})
	jsonType            = reflect.TypeOf(apiextensionsv1.JSON{})
	schemaOrBoolType    = reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrBool{})
	schemaOrArrayType   = reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrArray{})
	schemaOrStringsType = reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrStringArray{})
)

// The time of what would be given the server's.
const givenTime = "2026-01-02T03:04:05Z"

// A field as JSON names it, with what Go's tags say of it.
type field struct {
	json      string
	goType    reflect.Type
	always    bool // written even if it is empty
	omitZero  bool
	mergeKey  string
	strategy  string
	enclosing reflect.Type // the structure that declares it
	outer     reflect.Type // the structure that it is seen in
}

// fieldsOf lists a struct's fields, those of embedded structs in their place.
func fieldsOf(goType reflect.Type) []field {
	var fields []field
	for i := range goType.NumField() {
		member := goType.Field(i)
		name, options, _ := strings.Cut(member.Tag.Get("json"), ",")
		if name == "-" || (!member.IsExported() && !member.Anonymous) {
			continue
		}
		if member.Anonymous && name == "" {
			embedded := member.Type
			if embedded.Kind() == reflect.Pointer {
				embedded = embedded.Elem()
			}
			for _, inherited := range fieldsOf(embedded) {
				inherited.outer = goType
				fields = append(fields, inherited)
			}
			continue
		}
		if name == "" {
			name = member.Name
		}
		omit := "," + options + ","
		fields = append(fields, field{
			json:      name,
			goType:    member.Type,
			always:    !strings.Contains(omit, ",omitempty,") && !strings.Contains(omit, ",omitzero,"),
			omitZero:  strings.Contains(omit, ",omitzero,"),
			mergeKey:  member.Tag.Get("patchMergeKey"),
			strategy:  member.Tag.Get("patchStrategy"),
			enclosing: goType,
			outer:     goType,
		})
	}
	return fields
}

// randomOf is a source for a kind, which other kinds do not change.
func randomOf(kind kind) *rand.Rand {
	seed := fnv.New64a()
	seed.Write([]byte(kind.gvk.String()))
	return rand.New(rand.NewSource(int64(seed.Sum64())))
}

// randomObject makes an object as people and programs write them: with gaps, nulls, zeros, and values that are not in
// the form in which Go writes them.
func randomObject(random *rand.Rand, kind kind) any {
	maker := maker{random}
	object, _ := maker.structure(kind.goType, 0).(map[string]any)
	object["apiVersion"], object["kind"] = kind.gvk.ToAPIVersionAndKind()
	return object
}

type maker struct{ *rand.Rand }

func pick[T any](random maker, values ...T) T { return values[random.Intn(len(values))] }

func (m maker) structure(goType reflect.Type, depth int) any {
	object := map[string]any{}
	fields := fieldsOf(goType)
	// Large structs would fill everything below them: about six fields each.
	for _, field := range fields {
		if field.json == "kind" && depth == 0 || field.json == "apiVersion" && depth == 0 || field.json == "managedFields" {
			continue
		}
		wanted := 7.0 / float64(len(fields)+1)
		if depth == 0 {
			wanted = 0.8
			if field.json == "status" {
				wanted = 0.3
			}
		}
		if depth > 7 {
			wanted /= 3
		}
		if goType == schemaType {
			// Schemas hold schemas in a dozen ways: the first has many, those below few.
			wanted = 10.0 / float64(len(fields)+1)
			if depth > 5 {
				wanted /= 6
			}
		}
		if field.json == "timeAdded" {
			object[field.json] = givenTime // else it is the time of the server
			continue
		}
		if m.Float64() > wanted {
			continue
		}
		object[field.json] = m.value(field.goType, enumOf(field), depth+1)
	}
	return object
}

func (m maker) value(goType reflect.Type, enum []any, depth int) any {
	if m.Intn(14) == 0 {
		return nil
	}
	switch goType {
	case quantityType:
		return pick[any](m, "1", "1000m", "0.5", "100m", "1Gi", "1024Mi", "1500Mi", "0.0001", "1e3", "12E", "0", 0, 2, 1.5, "1048576", "250M", "2Ti", "1.5Gi", "0.1Ki", "-1", "100u", "1n")
	case timeType:
		return pick(m, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05+01:00", "2026-07-02T23:59:59-03:30", "2026-01-02T03:04:05.999Z")
	case microTimeType:
		return pick(m, "2026-01-02T03:04:05.123456Z", "2026-01-02T03:04:05.000000+02:00", "2026-01-02T03:04:05.1Z")
	case durationType:
		return pick(m, "60s", "1h", "90m", "1.5s", "0", "300ms")
	case intOrStringType:
		return pick[any](m, 0, 1, 80, "25%", "http", "", "80")
	case jsonType:
		return pick[any](m, 1, 1.5, 2.0, "a", "", true, false, []any{nil, 1.0}, map[string]any{"b": nil, "a": 3.0})
	case schemaOrBoolType:
		return pick(m, any(true), any(false), m.structure(schemaType, depth))
	case schemaOrArrayType:
		return pick(m, any([]any{}), any([]any{m.structure(schemaType, depth), nil}), m.structure(schemaType, depth), any("a"))
	case schemaOrStringsType:
		return pick(m, any([]any{}), any([]any{"a", nil}), m.structure(schemaType, depth), any(1))
	case rawType, fieldsType:
		return map[string]any{"b": []any{1, nil, "x"}, "a": map[string]any{}, "kind": "Example", "apiVersion": "example.com/v1"}
	}
	switch goType.Kind() {
	case reflect.Pointer:
		return m.value(goType.Elem(), enum, depth)
	case reflect.Bool:
		return m.Intn(2) == 0
	case reflect.Int32, reflect.Int64, reflect.Int, reflect.Uint32, reflect.Uint64, reflect.Uint8, reflect.Uint16:
		return pick(m, 0, 0, 1, 5, 80, 443)
	case reflect.Float64, reflect.Float32:
		return pick(m, 0, 1, 0.5)
	case reflect.String:
		if len(enum) > 0 && m.Intn(5) > 0 {
			return pick(m, enum...)
		}
		return pick(m, "", "a", "b", "nginx", "nginx:latest", "User", "ServiceAccount", "Container", "registry.example:5000/a/b", "r/x:1@sha256:"+strings.Repeat("a", 64))
	case reflect.Slice:
		if goType.Elem().Kind() == reflect.Uint8 {
			return pick(m, "", base64.StdEncoding.EncodeToString([]byte("hello")), "AAECAw==")
		}
		list := []any{}
		for range m.Intn(3) {
			list = append(list, m.value(goType.Elem(), enum, depth))
		}
		return list
	case reflect.Map:
		keys := []string{"a", "b", "x.example.com/y"}
		if goType.Elem() == quantityType {
			keys = []string{"cpu", "memory", "hugepages-2Mi", "example.com/gpu"}
		}
		object := map[string]any{}
		for _, key := range keys {
			if m.Intn(2) == 0 {
				object[key] = m.value(goType.Elem(), nil, depth)
			}
		}
		return object
	case reflect.Struct:
		return m.structure(goType, depth)
	}
	return nil
}
