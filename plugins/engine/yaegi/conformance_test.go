package yaegi_test

import (
	"testing"

	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	bundle := func(hash, src string) engine.Bundle {
		return engine.Bundle{Hash: hash, Script: hash, Files: []engine.File{{Name: "main.go", Data: []byte(src)}}}
	}
	enginetest.Run(t, enginetest.Suite{
		New: yaegi.New,
		Bundle: bundle("good", script([]string{"bytes", "errors", "strconv", "strings"}, `
	command, arg, _ := bytes.Cut(ctx.Request.Body, []byte(" "))
	switch string(command) {
	case "echo":
		return picloud.Response{Body: arg}, nil
	case "fail":
		return nil, errors.New(string(arg))
	case "panic":
		panic(string(arg))
	case "log":
		ctx.Log.Info(string(arg))
		return picloud.Response{}, nil
	case "wait":
		for {
		}
	case "flood":
		n, err := strconv.Atoi(string(arg))
		return picloud.Response{Body: strings.Repeat("x", n)}, err
	}
	return nil, errors.New("unknown command")`)),
		Broken: bundle("broken", script(nil, "return nothing, nil")),
		Line:   6, Column: 8,
	})
}
