package sinktest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/picloud/picloud/sdk/plugin"
	"github.com/picloud/picloud/sdk/sink"
)

// Dial serves a sink on a unix socket, as a plugin process does, and connects to it. Both ends close with the test.
func Dial(tb testing.TB, s sink.Sink) *sink.Client {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pic") // tb.TempDir is too long for a socket
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer(plugin.ServerOptions()...)
	sink.Register(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+path, append(plugin.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			tb.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	c, err := sink.Dial(context.Background(), conn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// Deliver sends an item and waits for its answer, for longer than one should take.
func Deliver(tb testing.TB, c *sink.Client, instance uint64, d *sink.Delivery) sink.Answer {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.Deliver(ctx, instance, d)
}
