package cron_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/picloud/picloud/core/cron"
	"github.com/picloud/picloud/core/tenant"
)

func schedule(t testing.TB, spec, zone string) *cron.Schedule {
	t.Helper()
	s, err := cron.Parse(spec, zone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ spec, zone, after, want string }{
		{"30 2 * * *", "", "2026-01-01T00:00:00Z", "01-01 02:30 UTC, 01-02 02:30 UTC"},
		{"*/20 * * * *", "", "2026-01-01T00:00:00Z", "01-01 00:20 UTC, 01-01 00:40 UTC, 01-01 01:00 UTC"},
		{"@daily", "Asia/Kathmandu", "2026-01-01T00:00:00Z", "01-02 00:00 +0545"},
		{"0 0 13 * 5", "", "2026-02-01T00:00:00Z", "02-06 00:00 UTC, 02-13 00:00 UTC, 02-20 00:00 UTC"}, // a Friday or a 13th
		{"0 0 L * *", "", "2026-02-01T00:00:00Z", "02-28 00:00 UTC, 03-31 00:00 UTC"},
		// New York, 8 March 2026: 02:00 becomes 03:00.
		{"30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", "03-08 03:30 EDT, 03-09 02:30 EDT"},
		{"30 * * * *", "America/New_York", "2026-03-08T06:00:00Z", "03-08 01:30 EST, 03-08 03:30 EDT, 03-08 04:30 EDT"},
		// 1 November 2026: 02:00 becomes 01:00.
		{"30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", "11-01 01:30 EDT, 11-02 01:30 EST"},
		{"30 0-23 * * *", "America/New_York", "2026-11-01T05:00:00Z", "11-01 01:30 EDT, 11-01 01:30 EST, 11-01 02:30 EST"},
		{"0,30 1,2 * * *", "America/New_York", "2026-11-01T04:59:00Z", "11-01 01:00 EDT, 11-01 01:30 EDT, 11-01 02:00 EST, 11-01 02:30 EST"},
		// Lord Howe sets its clocks by half an hour, Santiago and Cairo at midnight.
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", "04-05 01:45 +11, 04-06 01:45 +1030"},
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "10-04 02:45 +11, 10-05 02:15 +11"},
		{"30 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", "09-06 01:30 -03, 09-07 00:30 -03"},
		{"30 23 * * *", "America/Santiago", "2026-04-04T12:00:00Z", "04-04 23:30 -03, 04-05 23:30 -04"},
		{"30 * * * 6", "America/Santiago", "2026-04-05T02:00:00Z", "04-04 23:30 -03, 04-04 23:30 -04, 04-11 00:30 -04"},
		{"30 23 * * 6", "America/Santiago", "2026-04-05T02:00:00Z", "04-04 23:30 -03, 04-11 23:30 -04"},
		{"0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", "04-24 01:00 EEST, 04-25 00:00 EEST"},
	} {
		after, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, at := range schedule(t, c.spec, c.zone).Following(after, strings.Count(c.want, ",")+1) {
			got = append(got, at.Format("01-02 15:04 MST"))
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s in %s: %s, want %s", c.spec, c.zone, s, c.want)
		}
	}
	s := schedule(t, "*/15 30 9 * * 1-5", "Europe/Berlin") // a field for the second
	if got := s.Next(time.Date(2026, 6, 5, 9, 30, 45, 0, s.Next(time.Now()).Location())); got.Format(time.RFC3339) != "2026-06-08T09:30:00+02:00" {
		t.Error(got)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ spec, zone, field, words string }{
		{"", "", "schedule", "empty"},
		{"* * * *", "", "schedule", "cannot be read"},
		{"* * * * * * *", "", "schedule", "cannot be read"},
		{"61 * * * *", "", "schedule", "cannot be read"},
		{"0 0 30 2 *", "", "schedule", "never comes"},
		{"@every 5m", "", "schedule", "@every"},
		{"@reboot", "", "schedule", "cannot be read"},
		{"TZ=UTC", "", "schedule", "time_zone"},
		{"CRON_TZ=Asia/Tokyo 0 0 * * *", "", "schedule", "time_zone"},
		{"0 0 * * *", "Mars/Olympus", "time_zone", "Mars/Olympus"},
		{"0 0 * * *", "../../etc/passwd", "time_zone", "no time zone"},
		{"0 0 * * *", "Local", "time_zone", "name the zone"},
		{strings.Repeat("0,", 600) + "0 * * * *", "", "schedule", "long"},
	} {
		_, err := cron.Parse(c.spec, c.zone)
		var wrong *tenant.Invalid
		if !errors.As(err, &wrong) || wrong.Field != c.field || !strings.Contains(wrong.Message, c.words) {
			t.Errorf("%.40q in %q: %v", c.spec, c.zone, err)
		}
	}
	if _, err := cron.Parse("0 0 29 2 *", ""); err != nil {
		t.Error(err)
	}
}

// zones set their clocks in every way that is in use.
var zones = []string{
	"UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo", "Asia/Beirut",
	"Pacific/Auckland", "Asia/Kathmandu", "America/St_Johns", "Africa/Casablanca", "Europe/Dublin", "America/Havana", "Antarctica/Troll",
}

// A time of day comes once on each day of the calendar, whatever clocks do, and never earlier than it says.
func TestDailyComesOnceADay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom(zones).Draw(t, "zone")
		hour, minute := rapid.IntRange(0, 23).Draw(t, "hour"), rapid.IntRange(0, 59).Draw(t, "minute")
		s, err := cron.Parse(fmt.Sprintf("%d %d * * *", minute, hour), zone)
		if err != nil {
			t.Fatal(err)
		}
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		year := rapid.IntRange(2024, 2045).Draw(t, "year")
		day := time.Date(year, 1, 1, 12, 0, 0, 0, time.UTC) // of the calendar
		at := time.Date(year, 1, 1, 0, 0, 0, 0, location).Add(-time.Nanosecond)
		for range 366 {
			at = s.Next(at)
			if at.Format(time.DateOnly) != day.Format(time.DateOnly) {
				t.Fatalf("%s, not on %s", at, day.Format(time.DateOnly))
			}
			late := at.Hour()*60 + at.Minute() - hour*60 - minute
			if late < 0 || late > 120 || late > 0 && time.Date(at.Year(), at.Month(), at.Day(), hour, minute, 0, 0, location).Minute() == minute &&
				time.Date(at.Year(), at.Month(), at.Day(), hour, minute, 0, 0, location).Hour() == hour {
				t.Fatalf("%s is late", at)
			}
			day = day.AddDate(0, 0, 1)
		}
	})
}

// Beyond 2037 there is a rule for when clocks are set, in place of a list, or before that on some machines. There is a time after the last day
// of a leap year all the same.
func TestLastDayOfALeapYear(t *testing.T) {
	t.Parallel()
	for _, zone := range zones {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for spec, want := range map[string]time.Time{
			"41 11 2 1,9 *": time.Date(2041, 1, 2, 11, 41, 0, 0, location), "0 12 31 12 *": time.Date(2040, 12, 31, 12, 0, 0, 0, location),
			"30 0 1 1 *": time.Date(2041, 1, 1, 0, 30, 0, 0, location),
		} {
			s, err := cron.Parse(spec, zone)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Next(time.Date(2040, 12, 30, 0, 0, 0, 0, location)); !got.Equal(want) {
				t.Errorf("%s in %s: %s", spec, zone, got)
			}
		}
		s, err := cron.Parse("0 * * * *", zone)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(2040, 12, 30, 0, 0, 0, 0, location)
		for range 72 {
			next := s.Next(at)
			if next.Sub(at) != time.Hour {
				t.Errorf("in %s %s after %s", zone, next, at)
			}
			at = next
		}
	}
}

// A minute of every hour comes once in each hour that passes.
func TestHourlyComesEachHour(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom(zones).Draw(t, "zone")
		s, err := cron.Parse(fmt.Sprintf("%d * * * *", rapid.SampledFrom([]int{0, 10, 59}).Draw(t, "minute")), zone)
		if err != nil {
			t.Fatal(err)
		}
		at := s.Next(time.Date(rapid.IntRange(2024, 2045).Draw(t, "year"), 1, 1, 0, 0, 0, 0, time.UTC))
		for range 24 * 366 {
			next := s.Next(at)
			if gap := next.Sub(at); gap != time.Hour && zone != "Australia/Lord_Howe" || gap < 30*time.Minute || gap > 90*time.Minute {
				t.Fatalf("%s after %s", next, at)
			}
			at = next
		}
	})
}

// Times follow one another, whatever the fields are.
func TestTimesFollow(t *testing.T) {
	t.Parallel()
	field := func(low, high int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			switch n := rapid.IntRange(low, high).Draw(t, "n"); rapid.IntRange(0, 3).Draw(t, "form") {
			case 0:
				return fmt.Sprint(n)
			case 1:
				return fmt.Sprintf("*/%d", min(max(1, n), high-low))
			case 2:
				return fmt.Sprintf("%d-%d", low, n)
			}
			return "*"
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		spec := strings.Join([]string{
			field(0, 59).Draw(t, "minute"), field(0, 23).Draw(t, "hour"), field(1, 28).Draw(t, "day"), field(1, 12).Draw(t, "month"),
			field(0, 6).Draw(t, "weekday"),
		}, " ")
		s, err := cron.Parse(spec, rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(rapid.Int64Range(1.7e9, 2e9).Draw(t, "after"), 0)
		for _, next := range s.Following(at, 50) {
			if !next.After(at) {
				t.Fatalf("%s: %s after %s", spec, next, at)
			}
			at = next
		}
	})
}

// Whatever a schedule is, it is refused or has a next time.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"* * * * *", "@daily", "0 0 29 2 1", "*/7 1-5 L * sun", "TZ=UTC"} {
		f.Add(s, "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, spec, zone string) {
		s, err := cron.Parse(spec, zone)
		if err == nil && !s.Next(time.Unix(1.8e9, 0)).After(time.Unix(1.8e9, 0)) {
			t.Errorf("%q in %q", spec, zone)
		}
	})
}
