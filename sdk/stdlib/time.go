package stdlib

import (
	"fmt"
	"time"
	_ "time/tzdata" // an engine's process cannot open the machine's

	"github.com/picloud/picloud/sdk/fault"
)

// maxLayout bounds the form of a time, in bytes: a result is several times as long at most.
const maxLayout = 1 << 10

func zone(name string) (*time.Location, error) {
	place, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("there is no time zone %q: their names are such as Europe/Berlin", fault.Cut(name, 100))
	}
	return place, nil
}

func timeParse(args []any) (any, error) {
	text, layout := args[0].(string), args[1].(string)
	place, err := zone(args[2].(string))
	if err != nil {
		return nil, err
	}
	if len(layout) > maxLayout || len(text) > maxLayout {
		return nil, fmt.Errorf("a time has up to %d bytes", maxLayout)
	}
	return time.ParseInLocation(layout, text, place)
}

func timeFormat(args []any) (any, error) {
	layout := args[1].(string)
	place, err := zone(args[2].(string))
	if err != nil {
		return nil, err
	}
	if len(layout) > maxLayout {
		return nil, fmt.Errorf("a layout has up to %d bytes", maxLayout)
	}
	return args[0].(time.Time).In(place).Format(layout), nil
}

func timeDuration(args []any) (any, error) {
	d, err := time.ParseDuration(args[0].(string))
	return float64(d) / float64(time.Millisecond), err
}
