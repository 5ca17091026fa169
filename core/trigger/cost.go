package trigger

import (
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// prices says what calls cost that the library takes for one step whatever they are given: it counts the length of a text, compares
// what is within lists and objects, and looks up time zones for nothing.
type prices struct{}

// CallCost is part of cost.ActualCostEstimator. nil: what the library says.
func (prices) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	price := 1
	switch function {
	case "contains", "endsWith", "matches", "startsWith":
		return nil
	case operators.Equals, operators.NotEquals:
		if !alike(args[0], args[1]) {
			break
		}
		price += weight(args[0], maxCost)
	case operators.In:
		price += search(args[0], args[1])
	case "getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth", "getDate", "getDayOfWeek", "getHours", "getMinutes", "getSeconds", "getMilliseconds":
		if len(args) > 1 {
			price = zonePrice
		}
	default:
		for _, arg := range args {
			switch v := arg.(type) {
			case types.String:
				price += len(v) / textPrice
			case types.Bytes:
				price += len(v) / textPrice
			}
		}
	}
	out := uint64(price)
	return &out
}

const (
	textPrice = 10    // bytes that are looked at in one step
	zonePrice = 1_000 // a time zone is read from its file each time
)

// search is how many steps it takes to find a value in a list, or among the names of an object.
func search(x, in ref.Val) int {
	list, is := in.(traits.Lister)
	if !is {
		return weight(x, maxCost)
	}
	size, _ := list.Size().Value().(int64)
	switch v := x.(type) {
	case types.String: // those of another length are told apart at once
		return int(size) * (1 + len(v)/(10*textPrice))
	case traits.Sizer:
		return weight(in, maxCost)
	}
	return int(size)
}

// alike reports whether two values have to be looked into to be compared.
func alike(a, b ref.Val) bool {
	switch x := a.(type) {
	case types.String: // of which Size would count the letters
		y, is := b.(types.String)
		return is && len(x) == len(y)
	case traits.Sizer:
		y, is := b.(traits.Sizer)
		return is && a.Type() == b.Type() && x.Size().Equal(y.Size()) == types.True
	}
	return false
}

// weight is how many steps it takes to look at all of a value, up to most and a little more.
func weight(value any, most int) (steps int) {
	steps = 1
	switch v := value.(type) {
	case string:
		steps += len(v) / textPrice
	case []byte:
		steps += len(v) / textPrice
	case []any:
		for i := 0; i < len(v) && steps < most; i++ {
			steps += weight(v[i], most-steps)
		}
	case []ref.Val:
		for i := 0; i < len(v) && steps < most; i++ {
			steps += weight(v[i], most-steps)
		}
	case map[string]any:
		for name, x := range v {
			if steps >= most {
				break
			}
			steps += 1 + len(name)/textPrice + weight(x, most-steps)
		}
	case map[ref.Val]ref.Val:
		for name, x := range v {
			if steps >= most {
				break
			}
			steps += weight(name, most-steps) + weight(x, most-steps)
		}
	case ref.Val:
		return weight(v.Value(), most)
	}
	return steps
}
