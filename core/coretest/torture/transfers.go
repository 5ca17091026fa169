package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/engine"
)

// Transfer moves an amount between two accounts, which begin with nothing: all accounts together have nothing at any time. The scripts
// that do it are transactional. What a run does beside, it does once with the transfer or not at all: it counts its receipts by the
// nonce, makes a document, and has another script run.
type Transfer struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Amount int64  `json:"amount"`
}

// Balances are what the two accounts have after a transfer: the run writes them, answers with them, and keeps them as receipt.
type Balances struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// receipt is what a transfer leaves behind.
type receipt struct {
	Transfer Transfer `json:"transfer"`
	Balances Balances `json:"balances"`
	ID       string   `json:"id"` // of the execution
}

// accounts are few, so that transfers are in one another's way.
const accounts = 4

// drawTransfer makes o a transfer: one of whom somebody waits for, or one that is tried again where it is overtaken. Some take their time
// between reading and the end, and some fail after all, for which there must be nothing to see.
func (w *World) drawTransfer(random *rand.Rand, o *Op) {
	from := random.IntN(accounts)
	o.Transfer = &Transfer{
		From: fmt.Sprint("account ", from), To: fmt.Sprint("account ", (from+1+random.IntN(accounts-1))%accounts), Amount: 1 + random.Int64N(100),
	}
	o.Child, o.ChildScript = &Command{Nonce: uuid.NewString()}, "work"
	if o.Script = "payday"; random.IntN(2) == 0 {
		o.Script, o.Sync = "pay", true
	}
	switch random.IntN(8) {
	case 0:
		o.Fail = 1
	case 1, 2, 3:
		o.Sleep = 1 + random.IntN(150)
	}
}

// transfer does what a transactional script would.
func (e *Engine) transfer(ctx context.Context, c *Command, inv *engine.Invocation) (b Balances, err error) {
	ask := func(service, method string, in, out any) {
		var args, answer []byte
		if err == nil {
			args, err = json.Marshal(in)
		}
		if err == nil {
			answer, err = inv.Call(ctx, service, method, args)
		}
		if err == nil && out != nil {
			err = json.Unmarshal(answer, out)
		}
	}
	type place = map[string]any
	var balance struct{ Value int64 }
	t := c.Transfer
	ask("kv", "get", place{"collection": "bank", "key": t.From}, &balance)
	b.From, balance.Value = balance.Value-t.Amount, 0
	ask("kv", "get", place{"collection": "bank", "key": t.To}, &balance)
	b.To = balance.Value + t.Amount
	ask("kv", "set", place{"collection": "bank", "key": t.From, "value": b.From}, nil)
	ask("kv", "set", place{"collection": "bank", "key": t.To, "value": b.To}, nil)
	ask("kv", "increment", place{"collection": "times", "key": c.Nonce}, nil)
	ask("kv", "set", place{"collection": "receipts", "key": c.Nonce, "value": receipt{*t, b, inv.ExecutionID}}, nil)
	ask("docs", "create", place{"collection": "slips", "data": place{"nonce": c.Nonce}}, nil)
	data, failed := json.Marshal(c.Child)
	if failed != nil {
		return b, failed
	}
	ask("invoke", "send", place{"script": c.ChildScript, "data": string(data), "content_type": "application/json"}, nil)
	return b, err
}

// heedTransfer says what the answer to a transfer means.
func (w *World) heedTransfer(o *Op, body []byte) {
	switch o.Status {
	case http.StatusConflict:
		o.Result, o.Said = refused, string(body)
		w.saw("a transfer that was overtaken")
	case http.StatusBadGateway:
		o.Result, o.Said = unknown, string(body)
		if o.Fail > 0 && strings.Contains(o.Said, ":script_error") {
			o.Result = refused
			w.saw("a transfer that failed after all")
		}
	case http.StatusServiceUnavailable:
		o.Result, o.Said = refused, string(body)
		if strings.Contains(o.Said, "not known") {
			o.Result = unknown
		}
	}
}

// judgeTransfers checks the accounts against what clients were told, and against all receipts.
func (w *World) judgeTransfers(ctx context.Context, conn *pgx.Conn, ends map[string]record) error {
	balances, receipts, times, slips := map[string]int64{}, map[string]receipt{}, map[string]int{}, map[string]int{}
	rows, err := conn.Query(ctx, `SELECT collection, key, value FROM kv_entries
		UNION ALL SELECT collection, data->>'nonce', '1' FROM docs`)
	if err != nil {
		return err
	}
	var collection, key string
	var value []byte
	if _, err := pgx.ForEachRow(rows, []any{&collection, &key, &value}, func() error {
		var err error
		switch collection {
		case "bank":
			var n int64
			err = json.Unmarshal(value, &n)
			balances[key] = n
		case "receipts":
			var r receipt
			err = json.Unmarshal(value, &r)
			receipts[key] = r
		case "times":
			var n int
			err = json.Unmarshal(value, &n)
			times[key] = n
		case "slips":
			slips[key]++
		}
		return err
	}); err != nil {
		return fmt.Errorf("read the accounts: %w", err)
	}
	sum, expected := int64(0), map[string]int64{}
	for _, b := range balances {
		sum += b
	}
	for nonce, r := range receipts {
		expected[r.Transfer.From] -= r.Transfer.Amount
		expected[r.Transfer.To] += r.Transfer.Amount
		if times[nonce] != 1 || slips[nonce] != 1 {
			w.breach("transfers happen once", fmt.Sprintf("%s was done %d times, has %d slips", nonce, times[nonce], slips[nonce]))
		}
	}
	if sum != 0 {
		w.breach("transfers keep the sum", fmt.Sprintf("%d is left over: %v", sum, balances))
	}
	for account, b := range balances {
		if b != expected[account] {
			w.breach("accounts are what transfers say", fmt.Sprintf("%s has %d, by its receipts %d", account, b, expected[account]))
		}
	}
	if len(times) != len(receipts) || len(slips) != len(receipts) {
		w.breach("transfers are whole", fmt.Sprintf("%d receipts, %d counts, %d slips", len(receipts), len(times), len(slips)))
	}
	asked := map[string]bool{}
	for _, o := range w.journal.all() {
		if o.Transfer == nil {
			continue
		}
		asked[o.Nonce] = true
		r, done := receipts[o.Nonce]
		w.judgeTransfer(o, r, done, ends[r.ID])
	}
	for nonce := range receipts {
		if !asked[nonce] {
			w.breach("nothing unexpected", "a transfer "+nonce)
		}
	}
	w.counts["transfers done"] = len(receipts)
	return nil
}

// judgeTransfer checks one transfer. done: it has a receipt, of an execution that ended as end.
func (w *World) judgeTransfer(o *Op, r receipt, done bool, end record) {
	told := fmt.Sprintf("%s: %d %.200s; receipt %+v, %s", o.Nonce, o.Status, o.Said, r, w.recorder.tell(r.ID))
	sent := w.recorder.entries(o.Child.Nonce)
	switch {
	case o.Sync && o.Result == acknowledged && (!done || r.ID != o.ID || r.Balances != o.Balances):
		w.breach("an answer says what was done", fmt.Sprintf("%+v: %s", o.Balances, told))
	case o.Result == refused && done:
		w.breach("what is refused is not done", told)
	case o.Sync && o.Fail > 0 && done:
		w.breach("what fails is not done", told)
	case !o.Sync && o.Result == acknowledged && done && r.ID != o.ID:
		w.breach("a transfer is of its execution", told)
	case !o.Sync && done && end.outcome != outbox.Succeeded:
		w.breach("what is done has succeeded", fmt.Sprintf("%+v: %s", end, told))
	case done != (sent == 1) || sent > 1:
		w.breach("transfers send once", fmt.Sprintf("%d were sent: %s", sent, told))
	}
	if done && !o.Sync && end.attempt > 1 {
		w.saw("a transfer that was tried again")
	}
}
