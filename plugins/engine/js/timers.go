package js

import (
	"container/heap"
	"slices"
	"time"
)

// timer is when a function of the script is due.
type timer struct {
	at time.Time
	id int
}

// timers is a heap, the one that is due first on top; of those at one time the one that was set first.
type timers []timer

func (t timers) Len() int { return len(t) }

func (t timers) Less(i, j int) bool {
	return t[i].at.Before(t[j].at) || t[i].at.Equal(t[j].at) && t[i].id < t[j].id
}

func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }

// Push is part of heap.Interface.
func (t *timers) Push(v any) { *t = append(*t, v.(timer)) }

// Pop is part of heap.Interface.
func (t *timers) Pop() any {
	last := len(*t) - 1
	v := (*t)[last]
	*t = (*t)[:last]
	return v
}

func (t *timers) add(x timer) { heap.Push(t, x) }

func (t *timers) next() timer { return heap.Pop(t).(timer) }

func (t *timers) remove(id int) {
	if i := slices.IndexFunc(*t, func(x timer) bool { return x.id == id }); i >= 0 {
		heap.Remove(t, i)
	}
}
