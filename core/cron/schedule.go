// Package cron makes events of times: it says when a schedule comes next, and has each time fired once, by one node of
// many. It stands beside core/service: what it makes goes to core/outbox.
package cron

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // machines without a database of time zones

	parser "github.com/netresearch/go-cron"

	"github.com/picloud/picloud/core/tenant"
)

// parse takes five fields (minute, hour, day of month, month, day of week), six that begin with the second, or a word such
// as @daily. Where both days are given either is enough, as POSIX has it. It looks far ahead for what is rare: the 29th of
// February is a Monday once in up to 40 years.
var parse = parser.MustNewParser(parser.Minute | parser.Hour | parser.Dom | parser.Month | parser.Dow | parser.Descriptor |
	parser.DowOrDom | parser.DomL).WithSecondOptional().WithMaxSearchYears(41)

// Schedule is a set of times. It never changes and is safe for concurrent use.
type Schedule struct {
	fields *parser.SpecSchedule // in the zone of what it is asked: the library is only asked about clocks that are never set
	zone   *time.Location
	hourly bool // in every hour
}

// Parse reads a schedule and the time zone that it is meant in, a name of the IANA database; empty is UTC. Errors are a
// *tenant.Invalid of the field schedule or time_zone.
func Parse(spec, zone string) (*Schedule, error) {
	if zone == "Local" { // would be another one on each node
		return nil, &tenant.Invalid{Field: "time_zone", Message: "name the zone, such as Europe/Berlin"}
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		return nil, &tenant.Invalid{Field: "time_zone", Message: fmt.Sprintf("%q is no time zone: name one such as Europe/Berlin", zone)}
	}
	wrong := func(format string, args ...any) error {
		return &tenant.Invalid{Field: "schedule", Message: fmt.Sprintf(format, args...)}
	}
	spec = strings.TrimSpace(spec)
	switch {
	case strings.Contains(spec, "TZ="):
		return nil, wrong("holds a time zone, which belongs in time_zone")
	case strings.HasPrefix(spec, "@every"):
		return nil, wrong("@every counts from no time in particular: use fields, such as */5 * * * * for every five minutes")
	}
	parsed, err := parse.Parse(spec)
	if err != nil {
		return nil, wrong("%q cannot be read: %v", spec, err)
	}
	fields, is := parsed.(*parser.SpecSchedule)
	if !is {
		return nil, wrong("%q is not made of fields", spec)
	}
	const everyHour = 1<<24 - 1
	s := &Schedule{fields: fields, zone: location, hourly: fields.Hour&everyHour == everyHour}
	if s.Next(time.Now()).IsZero() {
		return nil, wrong("%q is a time that never comes", spec)
	}
	return s, nil
}

// Next returns the first time after t, in the zone of the schedule; zero if there is none within decades.
//
// Where clocks are set forward, a time that is skipped comes as much later. Where they are set back, a time that comes twice
// counts once. A schedule with a time in every hour has what the clock shows, no more and no less: every hour that passes is
// one.
func (s *Schedule) Next(t time.Time) time.Time {
	t = t.In(s.zone)
	for in := t; ; { // in is within the period of one offset that is searched
		start, end := in.ZoneBounds()
		if !end.IsZero() && !end.After(in) { // package time has years of 365 days, where a rule says when clocks are set: in is on the last of 366
			end = end.Add(day)
		}
		_, offset := in.Zone()
		next := s.at(t, offset)
		if next.IsZero() {
			return next
		}
		var until time.Time // clocks show again, or were set past, what they did or would have done before
		if !start.IsZero() && !s.hourly {
			_, before := start.Add(-time.Nanosecond).Zone()
			until = start.Add(time.Duration(max(before-offset, offset-before)) * time.Second)
			if late := s.at(t, before); before < offset && late.Before(until) && late.Before(next) {
				next = late
			}
			if before > offset && next.Before(until) {
				t = until.Add(-time.Nanosecond)
				continue
			}
		}
		switch {
		case end.IsZero() || next.Before(end):
			return next
		case next.Sub(end) > 4*day && !(s.hourly && s.back(end)): // nothing until then, whatever the offset
			in = next.Add(-2 * day)
			t = in
		default:
			in, t = end, end.Add(-time.Nanosecond)
		}
	}
}

const day = 24 * time.Hour

// back reports whether clocks are set back at a time, and so show again what they did before.
func (s *Schedule) back(at time.Time) bool {
	_, before := at.Add(-time.Nanosecond).In(s.zone).Zone()
	_, after := at.In(s.zone).Zone()
	return after < before
}

// at returns the first time after t at which a clock that never changes its offset, in seconds, shows what is asked for.
func (s *Schedule) at(t time.Time, offset int) time.Time {
	shift := time.Duration(offset) * time.Second
	next := s.fields.Next(t.UTC().Add(shift))
	if next.IsZero() {
		return next
	}
	return next.Add(-shift).In(s.zone)
}

// Following returns the next n times after t, fewer where there are no more.
func (s *Schedule) Following(t time.Time, n int) (times []time.Time) {
	for range n {
		if t = s.Next(t); t.IsZero() {
			break
		}
		times = append(times, t)
	}
	return times
}
