// Package metrics tells Prometheus how a node and its database stand. Everything is read when it is asked for: the ways of
// events only count.
package metrics

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/engine"
	"github.com/picloud/picloud/core/history"
	"github.com/picloud/picloud/core/record"
)

// Sources are where the numbers come from.
type Sources struct {
	Node    func() dispatcher.Stats
	Engines func() engine.Stats
	Health  func(ctx context.Context) (record.Health, error)
	Usage   func(ctx context.Context) ([]history.Usage, error)
	// Slug names an app; empty: it is gone.
	Slug func(app uuid.UUID) string
	Log  hclog.Logger
}

// Handler answers with the numbers of s, of the Go runtime and of the process, in the form that Prometheus reads.
func Handler(s Sources) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{sources: s},
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// remembered is how long what the database says is good for: a scrape must not become a load.
const remembered = 10 * time.Second

type collector struct {
	sources Sources

	mu     sync.Mutex
	asked  time.Time
	health record.Health
	usage  []history.Usage
	err    error
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("picloud_"+name, help, labels, nil)
}

var (
	accepted    = desc("entries_accepted_total", "Entries that were written: sync calls and events.")
	refused     = desc("entries_refused_total", "Sync calls and events that were not accepted.")
	handed      = desc("events_handed_total", "Events that are not written, and ran.")
	dropped     = desc("events_dropped_total", "Events that are not written, for which no slot was free.")
	claimed     = desc("entries_claimed_total", "Entries that waited in the database and were claimed.")
	attempts    = desc("attempts_total", "Attempts that ended, by how.", "outcome")
	engineTime  = desc("engine_seconds_total", "Time that attempts took.")
	slots       = desc("slots", "Runs that may be in progress at a time.")
	running     = desc("runs", "Runs in progress.", "class")
	waiting     = desc("waiting", "Entries that wait in memory for a slot.", "class")
	fenced      = desc("fenced", "1 while the node may not write since it is out of touch with the database.")
	processes   = desc("engine_processes", "Engine processes, spares included.", "engine")
	spares      = desc("engine_spares", "Blank engine processes that are ready.", "engine")
	starts      = desc("engine_starts_total", "Engine processes that were started.", "engine")
	recycles    = desc("engine_recycles_total", "Engine processes that were replaced, by why.", "reason")
	idleStops   = desc("engine_idle_stops_total", "Engine processes that were ended since nothing ran in them.")
	crashes     = desc("engine_crashes_total", "Engine processes that died.")
	quarantined = desc("scripts_quarantined", "Versions of scripts that are not run since they keep ending their processes.")
	transaction = desc("oldest_transaction_seconds", "Age of the oldest transaction; rows that died since then cannot be removed.")
	dead        = desc("outbox_dead_rows", "Dead rows of the outbox, by the server's estimate.")
	entries     = desc("outbox_entries", "Entries in the outbox, by the server's estimate.")
	oldest      = desc("oldest_ready_seconds", "How long the entry that has waited the longest has been ready.")
	database    = desc("database_bytes", "Size of the database.")
	kept        = desc("history_bytes", "What the records of an app's runs take.", "app")
	records     = desc("history_records", "Records of an app's runs.", "app")
	leftOut     = desc("history_left_out", "Runs of an app of which nothing is kept.", "app")
)

// Describe names every number.
func (c *collector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

// Collect reads every number.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	n := c.sources.Node()
	count(accepted, float64(n.Accepted))
	count(refused, float64(n.Refused))
	count(claimed, float64(n.Claimed))
	count(handed, float64(n.Handed))
	count(dropped, float64(n.Dropped))
	for outcome, total := range n.Outcomes {
		count(attempts, float64(total), outcome.String())
	}
	count(engineTime, n.EngineTime.Seconds())
	gauge(slots, float64(n.Slots))
	gauge(running, float64(n.Sync.Running), "sync")
	gauge(running, float64(n.Async.Running), "async")
	gauge(waiting, float64(n.Sync.Waiting), "sync")
	gauge(waiting, float64(n.Async.Waiting), "async")
	var isFenced float64
	if n.Fenced {
		isFenced = 1
	}
	gauge(fenced, isFenced)
	e := c.sources.Engines()
	for name, number := range e.Processes {
		gauge(processes, float64(number), name)
		gauge(spares, float64(e.Spares[name]), name)
		count(starts, float64(e.Starts[name]), name)
	}
	for reason, total := range e.Recycles {
		count(recycles, float64(total), reason)
	}
	count(idleStops, float64(e.IdleStops))
	count(crashes, float64(e.Crashes))
	gauge(quarantined, float64(e.Quarantined))
	health, usage, err := c.ask()
	if err != nil {
		c.sources.Log.Warn("metrics without the database's", "error", err)
		return
	}
	gauge(transaction, health.OldestTransaction.Seconds())
	gauge(dead, float64(health.DeadRows))
	gauge(entries, float64(health.Entries))
	gauge(oldest, health.OldestReady.Seconds())
	gauge(database, float64(health.DatabaseBytes))
	for _, u := range usage {
		if slug := c.sources.Slug(u.App); slug != "" {
			gauge(kept, float64(u.Bytes), slug)
			gauge(records, float64(u.Records), slug)
			gauge(leftOut, float64(u.LeftOut), slug)
		}
	}
}

// ask asks the database, unless it was asked a moment ago.
func (c *collector) ask() (record.Health, []history.Usage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.asked) < remembered {
		return c.health, c.usage, c.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c.asked = time.Now()
	if c.health, c.err = c.sources.Health(ctx); c.err == nil {
		c.usage, c.err = c.sources.Usage(ctx)
	}
	return c.health, c.usage, c.err
}
