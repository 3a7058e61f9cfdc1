// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package ops

import "net/http"

// errorBody is the JSON of every refusal of the admin socket.
type errorBody struct {
	Error string `json:"error"`
	ID    string `json:"id,omitempty"`
}

// WriteError answers an admin call with a JSON error that Do turns into a *CallError.
func WriteError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, errorBody{Error: message, ID: w.Header().Get(RequestIDHeader)})
}

// WriteJSON answers an admin call.
func WriteJSON(w http.ResponseWriter, v any) { writeJSON(w, http.StatusOK, v) }

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush and set deadlines.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// statusOnly takes status and header of an answer and drops its text.
type statusOnly struct {
	header http.Header
	code   int
}

func (w *statusOnly) Header() http.Header         { return w.header }
func (w *statusOnly) WriteHeader(code int)        { w.code = code }
func (w *statusOnly) Write(p []byte) (int, error) { return len(p), nil }
