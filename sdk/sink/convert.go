package sink

import (
	"time"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/plugin"
	sinkv1 "github.com/picloud/picloud/sdk/proto/sink/v1"
)

// Generated types end here: each pair below turns one of them into what the rest of the code uses, and back.

func infoToWire(i Info, window int, layers []plugin.Layer) *sinkv1.DescribeResponse {
	return &sinkv1.DescribeResponse{
		Name: i.Name, Version: i.Version, Secrets: i.Secrets, Window: int64(window), Layers: plugin.LayersToWire(layers),
	}
}

func infoFromWire(m *sinkv1.DescribeResponse) Info {
	return Info{Name: m.GetName(), Version: m.GetVersion(), Secrets: m.GetSecrets()}
}

func configToWire(instance uint64, c Config) *sinkv1.ConfigureRequest {
	return &sinkv1.ConfigureRequest{
		Instance: instance, Config: c.JSON, Reach: &sinkv1.Reach{Any: c.Reach.Any, Allow: c.Reach.Allow, Own: c.Reach.Own},
	}
}

func configFromWire(m *sinkv1.ConfigureRequest) Config {
	r := m.GetReach()
	return Config{JSON: m.GetConfig(), Reach: Reach{Any: r.GetAny(), Allow: r.GetAllow(), Own: r.GetOwn()}}
}

func deliveryToWire(instance uint64, d *Delivery, timeout time.Duration) *sinkv1.Item {
	m := &sinkv1.Item{
		Instance: instance, EventId: plugin.WireText(d.EventID), Attempt: int64(d.Attempt), Type: plugin.WireText(d.Type),
		TimeUnixNano: d.Time.UnixNano(), ContentType: plugin.WireText(d.ContentType), Data: d.Data, TimeoutMs: timeout.Milliseconds(),
	}
	for _, h := range d.Headers {
		m.Headers = append(m.Headers, &sinkv1.Header{Name: plugin.WireText(h.Name), Value: plugin.WireText(h.Value)})
	}
	return m
}

func deliveryFromWire(m *sinkv1.Item) Delivery {
	d := Delivery{
		EventID: m.GetEventId(), Attempt: int(m.GetAttempt()), Type: m.GetType(), Time: time.Unix(0, m.GetTimeUnixNano()).UTC(),
		ContentType: m.GetContentType(), Data: m.GetData(),
	}
	for _, h := range m.GetHeaders() {
		d.Headers = append(d.Headers, event.Header{Name: h.GetName(), Value: h.GetValue()})
	}
	return d
}

func answerToWire(a answer) *sinkv1.Answer {
	m := &sinkv1.Answer{Fault: plugin.FaultToWire(a.fault), Status: int64(a.status)}
	for _, l := range a.logs {
		m.Logs = append(m.Logs, &sinkv1.Log{TimeUnixNano: l.Time.UnixNano(), Level: plugin.WireText(l.Level), Message: []byte(l.Message)})
	}
	return m
}

func answerFromWire(m *sinkv1.Answer) Answer {
	a := Answer{Status: int(m.GetStatus()), Fault: plugin.FaultFromWire(m.GetFault())}
	for _, l := range m.GetLogs() {
		a.Logs = append(a.Logs, Log{Time: time.Unix(0, l.GetTimeUnixNano()).UTC(), Level: l.GetLevel(), Message: string(l.GetMessage())})
	}
	return a
}
