package api_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/auth"
)

func TestSpecIsCommitted(t *testing.T) {
	t.Parallel()
	spec, err := api.Spec()
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile(filepath.Join("..", "..", "openapi", "openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(spec, committed) {
		t.Error("openapi/openapi.yaml is not what the API is: write it anew with `picloud openapi`")
	}
	if again, err := api.Spec(); err != nil || !bytes.Equal(spec, again) {
		t.Error("the document differs from one time to the next")
	}
}

// document is what the tests read of the OpenAPI document.
type document struct {
	Paths      map[string]map[string]documented `json:"paths"`
	Components struct {
		Schemas map[string]shape `json:"schemas"`
	} `json:"components"`
}

// shape is the form of a body, with what huma.Schema does not read.
type shape struct {
	huma.Schema
	Ref        string           `json:"$ref"`
	Items      *shape           `json:"items"`
	Properties map[string]shape `json:"properties"`
}

// documented is an operation in it.
type documented struct {
	OperationID string           `json:"operationId"`
	Summary     string           `json:"summary"`
	Tags        []string         `json:"tags"`
	Capability  auth.Capability  `json:"x-capability"`
	Security    []map[string]any `json:"security"`
	RequestBody *struct {
		Content map[string]struct {
			Schema shape `json:"schema"`
		} `json:"content"`
	} `json:"requestBody"`
	Parameters []struct {
		Name        string
		In          string
		Description string
		Schema      struct {
			Maximum *float64 `json:"maximum"`
		}
	} `json:"parameters"`
	Responses map[string]any `json:"responses"`
}

func TestEveryOperation(t *testing.T) {
	t.Parallel()
	doc := fetchDocument(t, newAnonymous(t))
	public := map[string]bool{"get-version": true}
	seen := make(map[string]bool)
	for path, operations := range doc.Paths {
		for method, op := range operations {
			name := strings.ToUpper(method) + " " + path
			if op.OperationID == "" || seen[op.OperationID] || op.Summary == "" || len(op.Tags) != 1 {
				t.Errorf("%s: operation id %q must be unique, with a summary and one tag", name, op.OperationID)
			}
			seen[op.OperationID] = true
			switch {
			case public[op.OperationID]:
			case !op.Capability.Known():
				t.Errorf("%s declares the capability %q, which is none", name, op.Capability)
			case strings.Contains(path, "{app}") != strings.HasPrefix(string(op.Capability), "app:"):
				t.Errorf("%s declares the capability %q, which does not fit its path", name, op.Capability)
			case len(op.Security) == 0:
				t.Errorf("%s does not say that it needs a credential", name)
			case method == "get" && regexp.MustCompile(`write|manage|create|invoke`).MatchString(string(op.Capability)):
				t.Errorf("%s reads with %q", name, op.Capability)
			}
			if op.Responses["default"] == nil {
				t.Errorf("%s does not describe its errors", name)
			}
			for _, p := range op.Parameters {
				if p.Description == "" {
					t.Errorf("%s: parameter %s is not described", name, p.Name)
				}
				if p.Name == "limit" && (p.Schema.Maximum == nil || *p.Schema.Maximum > 200) {
					t.Errorf("%s: limit is not bounded by 200", name)
				}
			}
		}
	}
	snake := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	for name, schema := range doc.Components.Schemas {
		for field := range schema.Properties {
			if !snake.MatchString(field) {
				t.Errorf("%s.%s is not snake_case", name, field)
			}
		}
	}
}

func fetchDocument(t *testing.T, s *server) document {
	t.Helper()
	var doc document
	if err := json.Unmarshal(s.do(t, "GET", "/openapi.json", nil).body, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Paths) < 20 {
		t.Fatalf("the document has %d paths", len(doc.Paths))
	}
	return doc
}
