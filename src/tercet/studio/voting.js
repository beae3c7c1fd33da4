// Tells of a click on a vote, and of no other.
element.addEventListener("click", event => {
  const vote = event.target.closest("button.vote");
  if (vote) trigger("click", {...vote.dataset});
});
