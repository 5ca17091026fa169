package yaegi_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
	"github.com/picloud/picloud/sdk/fault"
)

// There is no way to more packages than are listed: not by another spelling, from the disk, the program's own, or around the imports.
func TestImportTricks(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	for _, imported := range []string{
		`"C"`, `. "unsafe"`, `_ "unsafe"`, `"./x"`, `"../../../../../etc/passwd"`, `"/etc/passwd"`, `"."`, `""`, `"main"`, `"strings/../os"`,
		`"os/../os"`, `"OS"`, `"os\x00"`, `"internal/poll"`, `"vendor/golang.org/x/net/http2/hpack"`, `"golang.org/x/sys/unix"`,
		`"github.com/picloud/picloud/core/node"`, `"github.com/picloud/picloud/plugins/engine/yaegi/symbols"`,
		`"github.com/picloud/picloud/sdk/picloud/guest"`, `"github.com/traefik/yaegi/interp"`, `"github.com/traefik/yaegi/stdlib/unsafe"`,
	} {
		src := strings.Replace(script(nil, "return nil, nil"), "import", "import "+imported+"\nimport", 1)
		if _, err := e.Load(t.Context(), bundle(imported, src)); kind(err) != fault.Compile {
			t.Errorf("import %s: %v", imported, err)
		}
	}
	for name, rest := range map[string]string{
		"linkname": "//go:linkname exit os.runtime_beforeExit\nfunc exit(int)\n",
		"assembly": "func exit(code int)\n",
	} {
		if _, err := e.Load(t.Context(), bundle(name, script(nil, `exit(3); return nil, nil`)+rest)); kind(err) != fault.Compile {
			t.Errorf("%s: %v", name, err)
		}
	}
	load(t, e, "embed", script(nil, `return source, nil`)+"//go:embed main.go\nvar source string\n") // a comment like any other
	if a, err := invoke(t.Context(), e, "embed", ""); err != nil || a.body.String() != `""` {
		t.Errorf("embed: %s, %v", a.body.String(), err)
	}
}

func kind(err error) fault.Kind {
	if err == nil {
		return ""
	}
	return fault.From(err).Kind
}

// No value of a package leads to one of reflect's that can read or change what another value holds.
func TestNoReflection(t *testing.T) {
	t.Parallel()
	value := reflect.TypeFor[reflect.Value]()
	for _, pkg := range symbols.Packages() {
		for name, symbol := range symbols.For(pkg) {
			s := symbol.Type()
			if s.Kind() == reflect.Pointer {
				s = s.Elem()
			}
			if s.Kind() != reflect.Struct {
				continue
			}
			for i := range s.NumField() {
				if f := s.Field(i); f.IsExported() && f.Type == value {
					t.Errorf("%s.%s has the field %s, a %s", pkg, name, f.Name, f.Type)
				}
			}
		}
	}
}

// The variables of packages are values: what a script assigns to one reaches neither another script nor the engine.
func TestVariablesStay(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	neighbour := "neighbour"
	load(t, e, neighbour, script([]string{"encoding/base64", "io", "time"}, `return []any{base64.StdEncoding != nil, io.EOF != nil, time.UTC.String(), time.Local != nil}, nil`))
	for _, c := range []struct{ pkg, body string }{
		{"encoding/base64", `base64.StdEncoding = nil; return nil, nil`},
		{"io", `io.EOF = nil; return nil, nil`},
		{"time", `time.Local = nil; return nil, nil`},
		{"time", `time.UTC = nil; return nil, nil`},
	} {
		load(t, e, c.body, script([]string{c.pkg}, c.body))
		if _, err := invoke(t.Context(), e, c.body, ""); kind(err) != fault.ScriptPanic {
			t.Errorf("%s: %v", c.body, err)
		}
		if a, err := invoke(t.Context(), e, neighbour, ""); err != nil || a.body.String() != `[true,true,"UTC",true]` {
			t.Errorf("after %s: %s, %v", c.body, a.body.String(), err)
		}
	}
}
