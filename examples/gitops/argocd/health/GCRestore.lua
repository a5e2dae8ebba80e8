-- Health of a GCRestore: it is done once. Progressing until it succeeded; Degraded when it cannot.
local waiting = { status = "Progressing", message = "Waiting for the operator" }
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return waiting
end
local conditions = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  conditions[condition.type] = condition
end
if conditions.Stalled and conditions.Stalled.status == "True" then
  return { status = "Degraded", message = conditions.Stalled.message }
end
if conditions.Succeeded and conditions.Succeeded.status == "True" then
  return { status = "Healthy", message = conditions.Succeeded.message or "" }
end
if conditions.Succeeded and conditions.Succeeded.status == "False" then
  return { status = "Degraded", message = conditions.Succeeded.message or conditions.Succeeded.reason }
end
if conditions.Ready and conditions.Ready.message then
  waiting.message = conditions.Ready.message
end
return waiting
