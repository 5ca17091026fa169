// Package core is the platform: everything between an event and the script that handles it. This file tells the way of
// an event; the folders below are named after its steps.
//
// A request comes in. [ingress] reads it on the public listener, finds the app by the host name and the route by method
// and path, both in a snapshot of the configuration in memory ([tenant]), and makes an entry of it: one event, to be
// delivered to one script. A sync request leaves a place in the [inbox] where its answer will land, and waits there.
//
// Events also come from outside by themselves: [source] runs what brings them in, each on one node by a lease, and makes entries of what
// it emits in the transaction that moves its cursor. Other services send theirs as requests, of which [webhook] checks the signatures.
//
// What nobody waits for may have a policy: of the script, of a queue that was sent to, or of a trigger. [trigger] says which
// triggers take what has happened, and turns the policy and the event into the fields of the entry: when it is due, in which
// order, at which gate it waits its turn. Times that come are events as well: [cron] has each fired once, by one node of many. So is what
// becomes of an app itself, which [lifecycle] tells: that it was deployed, or that something of it has failed.
//
// The entry goes to the [dispatcher]. If a slot is free now, the entry is written to the [outbox] already owned by this
// node, together with whatever else is being written at that moment, and is in a slot as soon as the transaction has
// committed; nothing is read back. If no slot is free, an async entry is written as ready, and is claimed later by
// whichever node has room; a sync one waits a little, and then its caller is told to come again. Who has the next slot is for
// [schedule] to say, fairly among apps by the time that their runs take. From the commit on, the entry is a promise: it ends
// once, in one final state, whatever dies in between.
//
// In its slot, [execution] runs it: one attempt, with a deadline, a log and a result. It asks [engine] for the process
// that has the app's scripts loaded, and passes what the script asks of the platform to [service], which sends further
// events: they know their first cause, so that a circle of scripts comes to an end. It keeps what apps store, too, in the forms that
// [data] has: [docquery] is the language in which documents are asked for, [files] holds the contents of files, [secret] what nobody
// else may see. What a script asks of the world outside goes through [outbound], which lets nothing inside. An entry whose target is a
// sink leaves the platform: [sink] hands it to the process of its kind, and the answer is a result like any other. Such a process is a
// plugin: [pluginhost] has started it, with nothing in its environment, and talks to it through an interface of the sdk. Processes that
// run scripts are never shared between apps, and their death is an error like any other.
//
// The result goes two ways. A caller who waits in the inbox has it at once. The dispatcher settles the entry: done; or
// again later, by the arithmetic of [retry]; or, when its attempts are used up or the failure is for good, a dead
// letter, which [deadletter] brings to the scripts that asked for such, and puts back when somebody wants it. How much of it
// all is recorded, [history] decides by what the app has used of its share. Settlements of many entries are one statement,
// which deletes the entries that are still ours and writes what [record] shows of them: a node that has lost its claim
// meanwhile changes nothing.
//
// A node owns entries by its epoch, one life of one process, kept alive by a pulse each second. When the pulse stops,
// the node stops settling before the others take over what it owned. The pulse also tells of due entries and of changed
// configuration, so that a quiet platform costs one query a second and nothing hangs on a notification that was lost.
//
// Around that line: [explain] says why an entry waits; [notice] tells owners of apps what no run tells; [metrics] tells Prometheus how it
// all stands; [failpoint] lets tests stop or kill the product between any two steps of it, and [planted] has them find defects that are
// there on purpose. [api] is the control API, and [auth] says who may use it; [postgres] holds every SQL statement and implements what
// the packages of the line ask for, and [embedded] runs a server where none was given; [node] wires it all together, as [config] says,
// and owns the order of start and stop. [coretest] is what tests are made with.
//
// Packages of the line declare the interfaces they need. Only node, the commands and tests import postgres, pluginhost
// and api. The core imports no plugin, though it knows what the built-in ones are called, and no plugin imports the core: both know the
// sdk. A test keeps it so.
//
// [api]: https://pkg.go.dev/github.com/picloud/picloud/core/api
// [auth]: https://pkg.go.dev/github.com/picloud/picloud/core/auth
// [config]: https://pkg.go.dev/github.com/picloud/picloud/core/config
// [coretest]: https://pkg.go.dev/github.com/picloud/picloud/core/coretest
// [cron]: https://pkg.go.dev/github.com/picloud/picloud/core/cron
// [data]: https://pkg.go.dev/github.com/picloud/picloud/core/data
// [deadletter]: https://pkg.go.dev/github.com/picloud/picloud/core/deadletter
// [dispatcher]: https://pkg.go.dev/github.com/picloud/picloud/core/dispatcher
// [docquery]: https://pkg.go.dev/github.com/picloud/picloud/core/docquery
// [embedded]: https://pkg.go.dev/github.com/picloud/picloud/core/postgres/embedded
// [engine]: https://pkg.go.dev/github.com/picloud/picloud/core/engine
// [execution]: https://pkg.go.dev/github.com/picloud/picloud/core/execution
// [explain]: https://pkg.go.dev/github.com/picloud/picloud/core/explain
// [failpoint]: https://pkg.go.dev/github.com/picloud/picloud/core/failpoint
// [files]: https://pkg.go.dev/github.com/picloud/picloud/core/files
// [history]: https://pkg.go.dev/github.com/picloud/picloud/core/history
// [inbox]: https://pkg.go.dev/github.com/picloud/picloud/core/inbox
// [ingress]: https://pkg.go.dev/github.com/picloud/picloud/core/ingress
// [lifecycle]: https://pkg.go.dev/github.com/picloud/picloud/core/lifecycle
// [metrics]: https://pkg.go.dev/github.com/picloud/picloud/core/metrics
// [node]: https://pkg.go.dev/github.com/picloud/picloud/core/node
// [notice]: https://pkg.go.dev/github.com/picloud/picloud/core/notice
// [outbound]: https://pkg.go.dev/github.com/picloud/picloud/core/outbound
// [outbox]: https://pkg.go.dev/github.com/picloud/picloud/core/outbox
// [planted]: https://pkg.go.dev/github.com/picloud/picloud/core/planted
// [pluginhost]: https://pkg.go.dev/github.com/picloud/picloud/core/pluginhost
// [postgres]: https://pkg.go.dev/github.com/picloud/picloud/core/postgres
// [record]: https://pkg.go.dev/github.com/picloud/picloud/core/record
// [retry]: https://pkg.go.dev/github.com/picloud/picloud/core/retry
// [schedule]: https://pkg.go.dev/github.com/picloud/picloud/core/schedule
// [secret]: https://pkg.go.dev/github.com/picloud/picloud/core/secret
// [service]: https://pkg.go.dev/github.com/picloud/picloud/core/service
// [sink]: https://pkg.go.dev/github.com/picloud/picloud/core/sink
// [source]: https://pkg.go.dev/github.com/picloud/picloud/core/source
// [tenant]: https://pkg.go.dev/github.com/picloud/picloud/core/tenant
// [trigger]: https://pkg.go.dev/github.com/picloud/picloud/core/trigger
// [webhook]: https://pkg.go.dev/github.com/picloud/picloud/core/webhook
package core
