// Package pushrule decides which events notify whom: the rules of a user, their evaluation, and the model by which unread
// events are counted without a row per member.
//
// It owns the default rules of the specification, the operations that the API has on a user's rules (RuleSet, a value that
// is never changed), their compiled form (Rules, and Counter for one room), and the classes, totals and the Watch of the
// counting model. It never fetches anything: display names, numbers of members and power levels come in as values.
//
// The counting model. A live event has a Class: the default rules that match it for anyone. The room stores running Totals
// per class, and a Counter says what each class is to one member. What the class can't say about a member is either more
// (a mention, a keyword; Watch finds these when the event is sent, and they get a row) or less (a muted sender; such a
// member's events are evaluated when they are read, Counter.TakesAway).
//
// The invariant: for every member and event, the verdict of the class, raised by what Watch reports and, where TakesAway
// says so, replaced by Counter.Evaluate, is what a naive walk through all of the member's rules gives.
//
// Spec: client-server-api#push-notifications
package pushrule
