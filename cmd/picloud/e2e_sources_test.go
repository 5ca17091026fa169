package main

import (
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/sdk/source/sourcetest"
	"github.com/picloud/picloud/sdk/source/sourcetest/feed"
)

func sendMail(address, to, text string) error {
	return smtp.SendMail(address, nil, "ada@sender.example", []string{to}, []byte(strings.ReplaceAll(`From: Ada <ada@sender.example>
To: `+to+`
Subject: order
Message-ID: <`+text+`@sender.example>

`+text+"\n", "\n", "\r\n")))
}

// Mail that comes in runs scripts in any language, and 250 says that it is safe.
func TestMailComesIn(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	n.command("deploy", script(t, "inbox", `var mail struct {
		From, Subject, Text string
		To []string
	}
	if err := ctx.Request.JSON(&mail); err != nil {
		return nil, err
	}
	ctx.Log.Info("mail", ctx.Event.Type, ctx.Event.Subject, mail.From, mail.To[0], mail.Text)
	return nil, nil`))
	n.command("deploy", write(t, t.TempDir(), "typed.ts", `import type { Context } from "picloud";
export default function (ctx: Context) {
  const mail = ctx.request.json() as { from: string; text: string };
  ctx.log.info("typed " + mail.from + " " + mail.text);
}
`))
	address := sourcetest.Address(t)
	config := fmt.Sprintf(`{"listen": %q, "domains": ["shop.example.com"]}`, address)
	n.command("triggers", "create", "inbox", "--kind", "email", "--script", "inbox", "--to", "orders+*@shop.example.com")
	n.command("triggers", "create", "typed", "--kind", "source", "--script", "typed", "--source", "post", "--type", "email.*", "--when", `data.subject == "order"`)
	if code, _, errs := n.cli("sources", "create", "post", "--kind", "smtp", "--config", `{"listen": "nowhere"}`); code == 0 || !strings.Contains(errs, "listen") {
		t.Errorf("%d %s", code, errs)
	}
	n.command("sources", "create", "post", "--kind", "smtp", "--config", config)
	await(t, "mail is taken", func() bool { return sendMail(address, "orders+7@shop.example.com", "first") == nil })
	if err := sendMail(address, "someone@shop.example.com", "second"); err != nil {
		t.Error(err)
	}
	if err := sendMail(address, "x@elsewhere.example", "third"); err == nil || !strings.Contains(err.Error(), "550") {
		t.Errorf("it relays: %v", err)
	}
	await(t, "scripts run", func() bool { return len(n.executions("inbox")) == 1 && len(n.executions("typed")) == 2 })
	for name, words := range map[string][]string{
		"inbox": {"email.received", "order", "ada@sender.example", "orders+7@shop.example.com", "first"},
		"typed": {"typed ada@sender.example first", "second"},
	} {
		logged := n.command("logs", name)
		for _, word := range words {
			if !strings.Contains(logged, word) {
				t.Errorf("%s logged no %s: %s", name, word, logged)
			}
		}
	}
	if shown := n.command("sources", "show", "post"); !strings.Contains(shown, `"running"`) || !strings.Contains(shown, `"events": 2`) && !strings.Contains(shown, `"events":2`) {
		t.Error(shown)
	}
	n.command("sources", "disable", "post")
	await(t, "it does not listen any more", func() bool { return sendMail(address, "a@shop.example.com", "fourth") != nil })
	n.command("sources", "enable", "post")
	await(t, "it listens again", func() bool { return sendMail(address, "a@shop.example.com", "fourth") == nil })
	n.command("sources", "delete", "post")
	await(t, "it is gone", func() bool { return sendMail(address, "a@shop.example.com", "fifth") != nil })
	if code, _, _ := n.cli("sources", "show", "post"); code == 0 {
		t.Error("a deleted source is shown")
	}
}

// A node that dies between DATA and 250 leaves the sender in doubt: it sends again, and the mail is there once.
func TestMailIsThereOnce(t *testing.T) {
	t.Parallel()
	for point, safe := range map[string]bool{failpoint.SourceReceived: false, failpoint.DataCaused: false, failpoint.SourceCommitted: true, failpoint.SourceAcked: true} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			how := setup{command: "serve", data: coretest.DataDir(t), database: coretest.URL(t), fail: point + "=kill@1"}
			n := start(t, how)
			n.command("deploy", script(t, "inbox", `return nil, nil`))
			n.command("triggers", "create", "inbox", "--kind", "email", "--script", "inbox")
			address := sourcetest.Address(t)
			n.command("sources", "create", "post", "--kind", "smtp", "--config", fmt.Sprintf(`{"listen": %q, "domains": ["a.example"]}`, address))
			await(t, "the node dies under the mail", func() bool {
				if err := sendMail(address, "x@a.example", "once"); err == nil {
					t.Fatal("it is answered")
				}
				return !n.alive()
			})
			db := connect(t, how.database)
			if there := count(t, db, `SELECT (SELECT count(*) FROM outbox WHERE kind = 22) + (SELECT count(*) FROM executions WHERE kind = 22)`); (there > 0) != safe {
				t.Errorf("%d are there", there)
			}
			how.fail = ""
			n = start(t, how)
			await(t, "it is taken", func() bool { return sendMail(address, "x@a.example", "once") == nil })
			if err := sendMail(address, "x@a.example", "once"); err != nil { // and once more
				t.Error(err)
			}
			await(t, "it is delivered", func() bool { return count(t, db, `SELECT count(*) FROM outbox`) == 0 })
			if times := count(t, db, `SELECT count(*) FROM executions WHERE kind = 22 AND outcome = 1`); times != 1 {
				t.Errorf("the script has run %d times", times)
			}
		})
	}
}

// An installed source moves from node to node, whichever is killed, and loses and repeats nothing.
func TestSourceMoves(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "feed")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "./sdk/examples/feed")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the example: %v\n%s", err, out)
	}
	list, database := feed.NewServer(t), coretest.URL(t)
	how := map[string]setup{}
	nodes := map[string]*instance{}
	for _, name := range []string{"a", "b"} {
		how[name] = setup{command: "serve", data: coretest.DataDir(t), database: database, args: []string{"--node-name", name}}
		(&instance{t: t, data: how[name].data}).command("plugin", "add", program)
		nodes[name] = start(t, how[name])
	}
	a := nodes["a"]
	a.command("deploy", script(t, "item", `return nil, nil`))
	a.command("triggers", "create", "item", "--kind", "source", "--script", "item", "--source", "news")
	a.command("sources", "create", "news", "--kind", "feed", "--config", string(list.Config()))
	db := connect(t, database)
	happened := 0
	for range 3 {
		for range 100 {
			happened++
			list.Happen(fmt.Sprint("text ", happened))
		}
		var holder string
		await(t, "a node runs it", func() bool {
			holder = text(t, db, `SELECT coalesce((SELECT n.name FROM sources f JOIN nodes n ON n.epoch = f.owner WHERE f.state = 'running'), '')`)
			return holder != ""
		})
		nodes[holder].kill()
		list.Happen("while it moves")
		happened++
		other := map[string]string{"a": "b", "b": "a"}[holder]
		await(t, "the other node runs it", func() bool {
			return text(t, db, `SELECT coalesce((SELECT n.name FROM sources f JOIN nodes n ON n.epoch = f.owner WHERE f.state = 'running'), '')`) == other
		})
		nodes[holder] = start(t, how[holder])
	}
	await(t, "all is taken in", func() bool { return count(t, db, `SELECT events FROM sources`) == happened })
	await(t, "all has run", func() bool { return count(t, db, `SELECT count(*) FROM outbox`) == 0 })
	if ran := count(t, db, `SELECT count(DISTINCT id) FROM executions WHERE kind = 21 AND outcome = 1`); ran != happened {
		t.Errorf("%d entries of %d events", ran, happened)
	}
}

func text(t *testing.T, db *pgx.Conn, query string) (s string) {
	t.Helper()
	if err := db.QueryRow(t.Context(), query).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}
