//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"slices"
)

// write is the body that makes the handler of values write.
const write = `{"name":"Ada"}`

// services measures what scripts' calls of the platform cost: a value by key that is written, and read, beside a hook of the peer that
// has a database, and a call of another script, beside that script alone.
func (b *bench) services(ctx context.Context) (err error) {
	server, others, stopAll, err := b.servers(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAll()) }()
	targets := only(others, "values")
	for _, l := range []language{goScripts, tsScripts} {
		path := "/values" + l.suffix
		if err := b.deploy(ctx, "values"+l.suffix, path, "--name", "values-"+l.suffix[1:]); err != nil {
			return err
		}
		url := "http://" + b.public + path
		if _, err := fetch(ctx, url, "", write); err != nil {
			return err
		}
		targets = append(targets,
			target{name: l.name + ", kv get", url: url, as: "values", pid: server},
			target{name: l.name + ", kv set", url: url, body: write, as: "values", pid: server})
		for file, name := range map[string]string{"hello": "no call", "invoke": "invoke"} {
			path := "/" + file + l.suffix
			if err := b.deploy(ctx, file+l.suffix, path, "--name", file+"-"+l.suffix[1:]); err != nil {
				return err
			}
			targets = append(targets, target{name: l.name + ", " + name, url: "http://" + b.public + path, as: "hello", pid: server})
		}
	}
	conns := []int{1, 64}
	samples, err := b.compare(ctx, targets, conns)
	if err != nil {
		return err
	}
	if err := report(os.Stdout, targets, conns, samples); err != nil {
		return err
	}
	return b.calls(ctx, server)
}

// only are the targets that answer one of these.
func only(targets []target, answers ...string) (list []target) {
	for _, t := range targets {
		if slices.Contains(answers, t.as) {
			list = append(list, t)
		}
	}
	return list
}
