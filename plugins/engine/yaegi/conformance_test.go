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
		Bundle: bundle("good", script([]string{"bytes", "errors", "strconv", "strings", "time"}, `
	if batch := ctx.Batch(); batch != nil {
		var result picloud.BatchResult
		for _, m := range batch {
			if bytes.HasPrefix(m.Body, []byte("bad")) {
				result.Failures = append(result.Failures, picloud.Failure{ID: m.ID, Error: string(m.Body), Fatal: true})
			}
		}
		return result, nil
	}
	command, arg, _ := bytes.Cut(ctx.Request.Body, []byte(" "))
	switch string(command) {
	case "echo":
		return picloud.Response{Body: arg}, nil
	case "fail":
		return nil, errors.New(string(arg))
	case "retry":
		return nil, picloud.RetryAfter(errors.New(string(arg)), 90*time.Second)
	case "fatal":
		return nil, picloud.Fatal(errors.New(string(arg)))
	case "send":
		id, err := ctx.Invoke("other", string(arg))
		return picloud.Response{Body: id}, err
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
		Importer: engine.Bundle{
			Hash: "importer", Files: sources("main.go", script([]string{"app/shared"}, "return shared.Echo(ctx), nil")),
			Modules: []engine.Module{module("shared", "shared.go", `package shared

import (
	"bytes"

	"github.com/picloud/picloud/sdk/picloud"
)

func Echo(ctx *picloud.Context) picloud.Response {
	return picloud.Response{Body: bytes.TrimPrefix(ctx.Request.Body, []byte("echo "))}
}
`)},
		},
	})
}
