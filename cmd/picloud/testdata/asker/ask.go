package main

import (
	"errors"
	"io"

	"github.com/picloud/picloud/sdk/picloud"
)

type asked struct {
	Service, Handle, Name string
	Args                  []any
	Options               map[string]any
}

func (a asked) text(i int) string {
	s, _ := a.Args[i].(string)
	return s
}

// Handle makes the calls that the request lists, one after the other, and answers with what the last has returned.
func Handle(ctx *picloud.Context) (any, error) {
	var list []asked
	if err := ctx.Request.JSON(&list); err != nil {
		return nil, err
	}
	var answer any
	for _, a := range list {
		var err error
		if answer, err = ask(ctx, a); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

func ask(ctx *picloud.Context, a asked) (any, error) {
	switch a.Service {
	case "kv":
		return kv(ctx.KV(a.Handle), a)
	case "docs":
		return docs(ctx.Docs(a.Handle), a)
	case "files":
		return files(ctx.Files(a.Handle), a)
	case "http":
		return web(ctx.HTTP, a)
	}
	switch a.Service + "." + a.Name {
	case "secrets.get":
		v, err := ctx.Secrets.Text(a.text(0))
		return v, err
	case "secrets.list":
		names, err := ctx.Secrets.List()
		return len(names), err
	case "secrets.set":
		return "set", ctx.Secrets.Set(a.text(0), a.Args[1])
	case "secrets.delete":
		was, err := ctx.Secrets.Delete(a.text(0))
		return was, err
	case "pubsub.publish":
		n, err := ctx.Publish(a.text(0), a.Args[1])
		return n, err
	case "pubsub.publish_ephemeral":
		n, _, err := ctx.PublishEphemeral(a.text(0), a.Args[1])
		return n, err
	case "sink.send":
		id, err := ctx.Sink(a.Handle).Send(a.Args[0])
		return id, err
	case "email.send":
		to, _ := a.Options["to"].(string)
		subject, _ := a.Options["subject"].(string)
		text, _ := a.Options["text"].(string)
		id, err := ctx.SendEmail(&picloud.Email{To: []string{to}, Subject: subject, Text: text})
		return id, err
	case "queue.send":
		id, err := ctx.Queue(a.Handle).Send(a.Args[0])
		return id, err
	case "queue.depth":
		depth, err := ctx.Queue(a.Handle).Depth()
		return depth.Waiting, err
	case "queue.purge":
		purged, _, err := ctx.Queue(a.Handle).Purge()
		return purged, err
	case "invoke.invoke":
		id, err := ctx.Invoke(a.text(0), a.Args[1])
		return id, err
	case "invoke.call":
		answer, err := ctx.Call(a.text(0), a.Args[1])
		if err != nil {
			return nil, err
		}
		return answer.Status, nil
	}
	return nil, errors.New("there is no call " + a.Service + "." + a.Name)
}

func kv(kv *picloud.KV, a asked) (any, error) {
	switch a.Name {
	case "get":
		var v any
		found, err := kv.Get(a.text(0), &v)
		return []any{found, v}, err
	case "entry":
		e, err := kv.Entry(a.text(0))
		return e.Version > 0, err
	case "has":
		has, err := kv.Has(a.text(0))
		return has, err
	case "set":
		_, err := kv.Set(a.text(0), a.Args[1])
		return "set", err
	case "delete":
		was, err := kv.Delete(a.text(0))
		return was, err
	case "increment":
		sum, err := kv.Increment(a.text(0), 1)
		return sum, err
	case "list":
		items, _, err := kv.List()
		return len(items), err
	}
	return nil, errors.New("there is no call kv." + a.Name)
}

func docs(docs *picloud.Docs, a asked) (any, error) {
	switch a.Name {
	case "create":
		d, err := docs.Create(a.Args[0])
		return d.ID, err
	case "get":
		var v any
		found, err := docs.Get(a.text(0), &v)
		return []any{found, v}, err
	case "update":
		_, err := docs.Update(a.text(0), a.Args[1])
		return "updated", err
	case "delete":
		was, err := docs.Delete(a.text(0))
		return was, err
	case "find":
		found, _, err := docs.Find(picloud.Filter{"n": 1})
		return len(found), err
	case "find_one":
		_, found, err := docs.FindOne(picloud.Filter{"n": 1})
		return found, err
	case "list":
		found, _, err := docs.Find(nil)
		return len(found), err
	case "index":
		return "ready", docs.Index(a.text(0), a.text(1))
	}
	return nil, errors.New("there is no call docs." + a.Name)
}

// files writes large files with a writer, which begins, writes and finishes.
func files(files *picloud.Files, a asked) (any, error) {
	switch a.Name {
	case "create":
		f, err := files.Create(a.text(0), "text/plain", []byte(a.text(1)))
		return f.ID, err
	case "get":
		data, _, err := files.Get(a.text(0))
		return string(data), err
	case "head":
		_, found, err := files.Head(a.text(0))
		return found, err
	case "read":
		data, err := io.ReadAll(files.Reader(a.text(0)))
		return string(data), err
	case "list":
		list, _, err := files.List()
		return len(list), err
	case "delete":
		was, err := files.Delete(a.text(0))
		return was, err
	case "begin", "write", "finish":
		w := files.Writer("large", "text/plain")
		if _, err := w.Write([]byte("large")); err != nil {
			return nil, err
		}
		f, err := w.Finish()
		return f.ID, err
	}
	return nil, errors.New("there is no call files." + a.Name)
}

func web(web *picloud.HTTP, a asked) (any, error) {
	var r *picloud.HTTPResponse
	var err error
	switch a.Name {
	case "get":
		r, err = web.Get(a.text(0))
	case "head":
		r, err = web.Head(a.text(0))
	case "delete":
		r, err = web.Delete(a.text(0))
	case "post":
		r, err = web.Post(a.text(0), a.Args[1])
	case "put":
		r, err = web.Put(a.text(0), a.Args[1])
	case "patch":
		r, err = web.Patch(a.text(0), a.Args[1])
	case "request":
		r, err = web.Do(&picloud.HTTPRequest{URL: a.text(0)})
	default:
		err = errors.New("there is no call http." + a.Name)
	}
	if err != nil {
		return nil, err
	}
	return r.Status, nil
}
