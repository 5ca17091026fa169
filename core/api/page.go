package api

import "github.com/google/uuid"

// AppPath is in the input of every operation of an app.
type AppPath struct {
	App string `path:"app" maxLength:"63" doc:"Slug or id of the app" example:"default"`
}

// ScriptPath is in the input of every operation of a script.
type ScriptPath struct {
	AppPath
	Script string `path:"script" maxLength:"63" doc:"Name or id of the script" example:"hello"`
}

// PageQuery is in the input of every list.
type PageQuery struct {
	Cursor string `query:"cursor" maxLength:"512" doc:"The next_cursor of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many items at most"`
}

// Page is the body of every list.
type Page[T any] struct {
	Items      []T    `json:"items" doc:"In the order of the list; empty if there are none"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Continues the list; absent on the last page"`
}

// body is an answer with a body.
type body[T any] struct{ Body T }

func answer[T any](v T) *body[T] { return &body[T]{v} }

// listed makes the answer of a list from records.
func listed[R, T any](records []R, next string, view func(*R) T) *body[Page[T]] {
	items := make([]T, len(records))
	for i := range records {
		items[i] = view(&records[i])
	}
	return answer(Page[T]{Items: items, NextCursor: next})
}

// optional returns the text of an id, or nothing for the nil id.
func optional(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}
