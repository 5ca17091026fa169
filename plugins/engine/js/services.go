package js

import (
	"encoding/json"
	"sync"

	"github.com/picloud/picloud/sdk/service"
)

// The table of sdk/service as the prelude reads it: names are those that scripts write.
type (
	tableService struct {
		Name    string        `json:"name"`
		Handle  string        `json:"handle,omitempty"`
		Plain   bool          `json:"plain,omitempty"`
		Sends   bool          `json:"sends,omitempty"`
		Methods []tableMethod `json:"methods"`
	}
	tableMethod struct {
		Name   string       `json:"name"`
		Call   string       `json:"call"`
		Result string       `json:"result,omitempty"`
		Params []tableParam `json:"params"`
	}
	tableParam struct {
		Name   string `json:"name"`
		Field  string `json:"field"`
		Kind   string `json:"kind"`
		Option bool   `json:"option,omitempty"`
	}
)

var kinds = map[service.Kind]string{
	service.Text: "text", service.Number: "number", service.Value: "value", service.Duration: "duration",
	service.Texts: "texts", service.Data: "data", service.Body: "body", service.Time: "time",
}

// services is the table, made once.
var services = sync.OnceValue(func() string {
	var table []tableService
	for _, s := range service.Services() {
		t := tableService{Name: service.Camel(s.Name), Handle: s.Handle, Plain: s.Plain, Sends: s.Sends}
		for _, m := range s.Methods {
			method := tableMethod{Name: service.Camel(m.Name), Call: m.Wire(), Result: m.Result, Params: []tableParam{}}
			for _, p := range m.Params {
				method.Params = append(method.Params, tableParam{service.Camel(p.Field), p.Field, kinds[p.Kind], p.Option})
			}
			t.Methods = append(t.Methods, method)
		}
		table = append(table, t)
	}
	b, _ := json.Marshal(table) // texts always encode
	return string(b)
})
