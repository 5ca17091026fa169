//go:build wasip1

// Command wasm-hello is a script in Go that is compiled instead of interpreted:
//
//	GOOS=wasip1 GOARCH=wasm go build -ldflags=-s -buildmode=c-shared -o hello.wasm ./sdk/examples/wasm-hello
//	picloud deploy hello.wasm --route 'GET /hello/{id}'
//
// Without -buildmode=c-shared every call has a fresh program, and the count stays at 1.
package main

import (
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/picloud/guest"
)

func init() { guest.Register(Handle) }

func main() { guest.Serve(Handle) }

var calls int

// Handle greets.
func Handle(ctx *picloud.Context) (any, error) {
	calls++
	ctx.Log.Info("greeting", ctx.Request.Param("id"))
	return map[string]any{"greeting": "hello, " + ctx.Request.Param("id"), "call": calls}, nil
}
