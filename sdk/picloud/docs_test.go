package picloud_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func TestDocs(t *testing.T) {
	t.Parallel()
	const doc = `{"id":"d1","data":{"total":12},"version":7,"created_at":"2030-01-02T03:04:05Z","updated_at":"2030-01-02T03:04:06Z"}`
	h := &host{}
	docs := newContext(h).Docs("orders")
	asked := func(method, args string) {
		t.Helper()
		if h.called != "docs."+method || fmt.Sprint(h.args) != args {
			t.Errorf("%s %v, not %s %s", h.called, h.args, method, args)
		}
	}

	h.answer = doc
	d, err := docs.Create(map[string]any{"total": 12})
	if err != nil || d.ID != "d1" || d.Version != 7 || d.UpdatedAt.Sub(d.CreatedAt) != time.Second {
		t.Errorf("%+v, %v", d, err)
	}
	asked("create", "map[collection:orders data:map[total:12]]")
	if _, err := docs.CreateAs("d2", map[string]any{}); err != nil {
		t.Error(err)
	}
	asked("create", "map[collection:orders data:map[] id:d2]")
	if _, err := docs.UpdateIf("d1", map[string]any{"total": 13}, 7); err != nil {
		t.Error(err)
	}
	asked("update", "map[collection:orders data:map[total:13] id:d1 if_version:7]")
	if _, err := docs.Update("d1", map[string]any{}); err != nil {
		t.Error(err)
	}
	asked("update", "map[collection:orders data:map[] id:d1]")
	if _, err := docs.UpdateIf("d1", map[string]any{}, 0); err != nil { // the version of what was not there
		t.Error(err)
	}
	asked("update", "map[collection:orders data:map[] id:d1 if_version:0]")
	if _, err := docs.DeleteIf("d1", 0); err != nil {
		t.Error(err)
	}
	asked("delete", "map[collection:orders id:d1 if_version:0]")
	h.called = ""
	if _, err := docs.Create(func() {}); picloud.Code(err) != picloud.InvalidArgument || h.called != "" {
		t.Errorf("%v, %s", err, h.called)
	}
	if _, _, err := docs.Find(picloud.Filter{"a": func() {}}); picloud.Code(err) != picloud.InvalidArgument || h.called != "" {
		t.Errorf("%v, %s", err, h.called)
	}

	var order struct{ Total int }
	h.answer = `{"doc":` + doc + `}`
	if found, err := docs.Get("d1", &order); !found || err != nil || order.Total != 12 {
		t.Errorf("%v, %+v, %v", found, order, err)
	}
	h.answer = `{}`
	if found, err := docs.Get("d1", &order); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	if _, found, err := docs.FindOne(picloud.Filter{"total": picloud.Filter{"$gt": 5}}, "-total"); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	asked("find_one", "map[collection:orders filter:map[total:map[$gt:5]] sort:[-total]]")

	h.answer = `{"items":[` + doc + `],"next_cursor":"c"}`
	all, next, err := docs.Find(nil, &picloud.FindOptions{Sort: []string{"a", "-b"}, Limit: 1, Cursor: "x"})
	if err != nil || len(all) != 1 || next != "c" || all[0].JSON(&order) != nil {
		t.Errorf("%+v, %q, %v", all, next, err)
	}
	asked("find", "map[collection:orders cursor:x limit:1 sort:[a -b]]")
	h.answer = `{"deleted":true}`
	if deleted, err := docs.DeleteIf("d1", 7); !deleted || err != nil {
		t.Errorf("%v, %v", deleted, err)
	}
	asked("delete", "map[collection:orders id:d1 if_version:7]")
	h.answer = `{"state":"ready"}`
	if err := docs.Index("total", picloud.NumberIndex); err != nil {
		t.Error(err)
	}
	asked("index", "map[collection:orders path:total type:number]")
}
