// Command pager is a sink that somebody else has written: it says in its log what it is given, and calls nobody.
package main

import (
	"encoding/json"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/sink"
)

type pager struct {
	To    string `json:"to"`
	Token string `json:"token"`
}

func (pager) Info() sink.Info {
	return sink.Info{Name: "pager", Version: "7", Secrets: []string{"token"}}
}

func (pager) Open(s sink.Setting) (sink.Instance, error) {
	var p pager
	if err := json.Unmarshal(s.Config, &p); err != nil || p.To == "" || p.Token == "" {
		return nil, fault.New(fault.Invalid, fault.Script, "to and token: are needed")
	}
	return p, nil
}

func (pager) Bounds() (batch, parallel int) { return sink.MaxBatch, 1 }

func (p pager) Deliver(items []*sink.Item) {
	for _, i := range items {
		i.Log("info", "paged %s with %s by %s", p.To, i.Data, p.Token)
		i.Answer(200, nil)
	}
}

func (pager) Close() {}

func main() { sink.Serve(pager{}) }
