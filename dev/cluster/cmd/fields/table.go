package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	aggregator "k8s.io/kube-aggregator/pkg/generated/openapi"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/controlplane"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

const head = `# The kinds of Kubernetes %s and what they are made of. Made by ` + "`cargo xtask generate`" + ` from Kubernetes' own code.
#
# gone VERSION KIND…                     kinds that this version of Kubernetes knows and does not serve
# kind VERSION KIND RESOURCE SCOPE TYPE  a kind, the path it is sent to
# type NAME [atomic]                     a type, then its fields in Go's order:
#   NAME TYPE [always|omitzero] [= DEFAULT] [rule] [list(…)|map(…)] [patch(…)] [enum(…)]
#   either(A,B) is A, or the structure B
#
# An empty value is left out, unless it is written always; omitzero also leaves out empty structs. A default stands
# wherever the field is missing; a rule is more than that, and is code. list and map say how server-side apply merges.
`

var definitions = func() map[string]common.OpenAPIDefinition {
	reference := func(name string) spec.Ref { return spec.MustCreateRef("#/definitions/" + name) }
	all := aggregator.GetOpenAPIDefinitions(reference)
	for name, definition := range openapi.GetOpenAPIDefinitions(reference) {
		all[name] = definition
	}
	return all
}()

func definitionOf(goType reflect.Type) (spec.Schema, bool) {
	if model, ok := reflect.New(goType).Interface().(interface{ OpenAPIModelName() string }); ok {
		if definition, ok := definitions[model.OpenAPIModelName()]; ok {
			return definition.Schema, true
		}
	}
	definition, ok := definitions[goType.PkgPath()+"."+goType.Name()]
	return definition.Schema, ok
}

// schemaOf finds what OpenAPI says of a field.
func schemaOf(field field) spec.Schema {
	for _, goType := range []reflect.Type{field.enclosing, field.outer} {
		definition, _ := definitionOf(goType)
		if schema, ok := definition.Properties[field.json]; ok {
			return schema
		}
	}
	return spec.Schema{}
}

func enumOf(field field) []any {
	schema := schemaOf(field)
	if len(schema.Enum) == 0 && schema.Items != nil && schema.Items.Schema != nil {
		return schema.Items.Schema.Enum
	}
	return schema.Enum
}

func writeTable(out *bufio.Writer, kinds []kind) error {
	learned := learn(kinds)
	fmt.Fprintf(out, head, kubernetesVersion())
	writeGone(out, kinds)
	types := map[string]reflect.Type{}
	for _, kind := range kinds {
		scope := "cluster"
		if kind.namespaced {
			scope = "namespaced"
		}
		fmt.Fprintf(out, "kind %s %s %s %s %s\n", kind.gvk.GroupVersion(), kind.gvk.Kind, kind.resource, scope, typeName(kind.goType))
		collect(kind.goType, types)
	}
	names := make([]string, 0, len(types))
	for name := range types {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		goType := types[name]
		atomic := ""
		if schema, ok := definitionOf(goType); !ok {
			return fmt.Errorf("OpenAPI does not know %s", name)
		} else if text, _ := schema.Extensions.GetString("x-kubernetes-map-type"); text == "atomic" {
			atomic = " atomic"
		}
		fmt.Fprintf(out, "type %s%s\n", name, atomic)
		for _, field := range fieldsOf(goType) {
			fmt.Fprintf(out, "  %s\n", describe(field, learned[place{field.enclosing, field.json}]))
		}
	}
	return nil
}

func kubernetesVersion() string { return moduleVersion("k8s.io/kubernetes") }

// writeGone names what the scheme knows and the API server does not serve.
func writeGone(out *bufio.Writer, kinds []kind) {
	served := map[string]bool{}
	for _, kind := range kinds {
		served[kind.gvk.String()] = true
	}
	config := controlplane.DefaultAPIResourceConfigSource()
	gone := map[string][]string{}
	for _, scheme := range schemes {
		for gvk, goType := range scheme.AllKnownTypes() {
			_, configured := config.GroupVersionConfigs[gvk.GroupVersion()]
			if gvk.Version == runtime.APIVersionInternal || configured || served[gvk.String()] || goType.Kind() != reflect.Struct {
				continue
			}
			if _, ok := goType.FieldByName("ObjectMeta"); ok {
				version := gvk.GroupVersion().String()
				gone[version] = append(gone[version], gvk.Kind)
			}
		}
	}
	versions := make([]string, 0, len(gone))
	for version := range gone {
		versions = append(versions, version)
	}
	sort.Strings(versions)
	for _, version := range versions {
		sort.Strings(gone[version])
		fmt.Fprintf(out, "gone %s %s\n", version, strings.Join(gone[version], " "))
	}
}

// typeName is the package's last two parts and the type's name: core/v1.Pod.
func typeName(goType reflect.Type) string {
	version := path.Base(goType.PkgPath())
	return path.Base(path.Dir(goType.PkgPath())) + "/" + version + "." + goType.Name()
}

var words = map[reflect.Type]string{
	quantityType: "Quantity", timeType: "Time", microTimeType: "MicroTime", durationType: "Duration",
	intOrStringType: "IntOrString", rawType: "raw", fieldsType: "raw", jsonType: "JSON",
	schemaOrBoolType:    "either(bool," + schemaName + ")",
	schemaOrArrayType:   "either([]" + schemaName + "," + schemaName + ")",
	schemaOrStringsType: "either([]string," + schemaName + ")",
}

// A schema of a custom resource holds others, some of them beside a boolean or a list.
const schemaName = "apiextensions/v1.JSONSchemaProps"

func spelled(goType reflect.Type) string {
	if word, ok := words[goType]; ok {
		return word
	}
	switch goType.Kind() {
	case reflect.Pointer:
		return "*" + spelled(goType.Elem())
	case reflect.Slice:
		if goType.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "[]" + spelled(goType.Elem())
	case reflect.Map:
		return "{}" + spelled(goType.Elem())
	case reflect.Struct:
		return typeName(goType)
	}
	return goType.Kind().String()
}

func collect(goType reflect.Type, types map[string]reflect.Type) {
	if _, ok := words[goType]; ok {
		return
	}
	switch goType.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		collect(goType.Elem(), types)
	case reflect.Struct:
		name := typeName(goType)
		if _, seen := types[name]; seen {
			return
		}
		types[name] = goType
		for _, field := range fieldsOf(goType) {
			collect(field.goType, types)
		}
	}
}

func describe(field field, known *finding) string {
	parts := []string{field.json, spelled(field.goType)}
	if field.always {
		parts = append(parts, "always")
	}
	if field.omitZero {
		parts = append(parts, "omitzero")
	}
	if known.isDefault() {
		parts = append(parts, "=", known.only())
	}
	if known.isRule() {
		parts = append(parts, "rule")
	}
	schema := schemaOf(field)
	if list, _ := schema.Extensions.GetString("x-kubernetes-list-type"); list == "map" {
		keys, _ := schema.Extensions.GetStringSlice("x-kubernetes-list-map-keys")
		parts = append(parts, "list("+strings.Join(keys, ",")+")")
	} else if list != "" {
		parts = append(parts, "list("+list+")")
	}
	if kind, _ := schema.Extensions.GetString("x-kubernetes-map-type"); kind != "" {
		parts = append(parts, "map("+kind+")")
	}
	if field.strategy != "" || field.mergeKey != "" {
		parts = append(parts, "patch("+strings.TrimSuffix(field.strategy+":"+field.mergeKey, ":")+")")
	}
	if enum := enumOf(field); len(enum) > 0 {
		values := make([]string, len(enum))
		for i, value := range enum {
			values[i] = fmt.Sprint(value)
		}
		parts = append(parts, "enum("+strings.Join(values, "|")+")")
	}
	return strings.Join(parts, " ")
}

// A field of a type.
type place struct {
	goType reflect.Type
	json   string
}

// What was seen of a field that was missing before defaults, and whether one that stood was changed.
type finding struct {
	seen    map[string]int
	changed bool
}

const stayed = "nothing"

func (f *finding) only() string {
	for value := range f.seen {
		return value
	}
	return stayed
}

func (f *finding) isDefault() bool {
	return f != nil && len(f.seen) == 1 && f.only() != stayed && !f.changed
}

// isRule says whether there is more to a field; so it is with a default that is the time.
func (f *finding) isRule() bool {
	return f != nil && !f.isDefault() && (f.changed || len(f.seen) > 1)
}

// learn finds out what defaults and conversions do, by looking at what they did to many random objects.
func learn(kinds []kind) map[place]*finding {
	learned := map[place]*finding{}
	for _, kind := range kinds {
		random := randomOf(kind)
		for range 1200 {
			text, err := json.Marshal(randomObject(random, kind))
			if err != nil {
				continue
			}
			before := reflect.New(kind.goType)
			if json.Unmarshal(text, before.Interface()) != nil {
				continue
			}
			object := before.Interface().(runtime.Object)
			after := object.DeepCopyObject()
			kind.scheme.Default(after)
			compare(before.Elem(), reflect.ValueOf(after).Elem(), learned)
			// What the way through the version in memory changes is a rule, whatever it was.
			encoded, err := json.Marshal(after)
			if err != nil {
				continue
			}
			through, err := normalize(encoded)
			if err != nil {
				continue
			}
			// Both are read again: what is written as null is nothing to both.
			reread, converted := reflect.New(kind.goType), reflect.New(kind.goType)
			if json.Unmarshal(encoded, reread.Interface()) != nil || json.Unmarshal(through, converted.Interface()) != nil {
				continue
			}
			changes(reread.Elem(), converted.Elem(), learned)
		}
	}
	return learned
}

func note(learned map[place]*finding, at place) *finding {
	if learned[at] == nil {
		learned[at] = &finding{seen: map[string]int{}}
	}
	return learned[at]
}

// compare walks two values of a type and notes what became of each field that was missing.
func compare(before, after reflect.Value, learned map[place]*finding) {
	descend(before, after, func(at place, was, is reflect.Value, always bool) {
		switch {
		case was.Kind() == reflect.Struct && isStruct(was.Type()):
			// It is there anyway; what it holds is looked at by itself.
		case !isMissing(was):
			note(learned, at).changed = note(learned, at).changed || differ(was, is)
		case isMissing(is):
			note(learned, at).seen[stayed]++
			note(learned, at).changed = note(learned, at).changed || always && written(was) != written(is)
		case is.Type() == reflect.PointerTo(timeType):
			note(learned, at).changed = true // the time of the server
		default:
			note(learned, at).seen[written(is)]++
		}
	})
}

func changes(before, after reflect.Value, learned map[place]*finding) {
	descend(before, after, func(at place, was, is reflect.Value, always bool) {
		if was.Kind() == reflect.Struct && isStruct(was.Type()) {
			return
		}
		if differ(was, is) || always && isMissing(was) && written(was) != written(is) {
			note(learned, at).changed = true
		}
	})
}

// differ compares what is not looked at further down.
func differ(was, is reflect.Value) bool {
	if isMissing(was) || isMissing(is) {
		return isMissing(was) != isMissing(is)
	}
	if !isStruct(was.Type()) {
		return written(was) != written(is)
	}
	return (was.Kind() == reflect.Slice || was.Kind() == reflect.Map) && was.Len() != is.Len()
}

// isStruct says whether a walk goes on below a value, which then is not compared as a whole.
func isStruct(goType reflect.Type) bool {
	if _, ok := words[goType]; ok {
		return false
	}
	switch goType.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return isStruct(goType.Elem())
	}
	return goType.Kind() == reflect.Struct
}

func isMissing(value reflect.Value) bool {
	if quantity, ok := value.Interface().(resource.Quantity); ok {
		return quantity.IsZero()
	}
	switch value.Kind() {
	case reflect.Slice, reflect.Map:
		return value.Len() == 0
	}
	return value.IsZero()
}

func written(value reflect.Value) string {
	text, err := json.Marshal(value.Interface())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func descend(before, after reflect.Value, visit func(at place, was, is reflect.Value, always bool)) {
	if _, ok := words[before.Type()]; ok {
		return
	}
	switch before.Kind() {
	case reflect.Pointer:
		if !before.IsNil() && !after.IsNil() {
			descend(before.Elem(), after.Elem(), visit)
		}
	case reflect.Slice:
		if !isStruct(before.Type()) || before.Len() != after.Len() {
			return
		}
		for i := range before.Len() {
			descend(before.Index(i), after.Index(i), visit)
		}
	case reflect.Map:
		if !isStruct(before.Type()) {
			return
		}
		for _, key := range before.MapKeys() {
			if value := after.MapIndex(key); value.IsValid() {
				descend(before.MapIndex(key), value, visit)
			}
		}
	case reflect.Struct:
		descendFields(before, after, before.Type(), visit)
	}
}

func descendFields(before, after reflect.Value, goType reflect.Type, visit func(at place, was, is reflect.Value, always bool)) {
	for i := range goType.NumField() {
		member := goType.Field(i)
		name, options, _ := strings.Cut(member.Tag.Get("json"), ",")
		was, is := before.Field(i), after.Field(i)
		switch {
		case name == "-" || !member.IsExported():
		case member.Anonymous && name == "":
			if was.Kind() == reflect.Pointer || member.Type == typeMetaType {
				continue // what an object is does not change
			}
			descendFields(was, is, member.Type, visit)
		default:
			visit(place{goType, name}, was, is, !strings.Contains(options, "omit"))
			descend(was, is, visit)
		}
	}
}
